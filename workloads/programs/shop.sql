-- What each client of the shop does again and again: it looks something up, buys, is shown lists and
-- sums. Rows are changed one at a time by their key, so that clients do not wait in a circle.
SET @c = 1 + FLOOR(RAND() * 2000), @i = 1 + FLOOR(RAND() * 480);
SELECT name, city, note FROM customer WHERE id = @c;
SELECT title, price, stock FROM item WHERE id = @i;
INSERT INTO purchase (customer, item, amount, remark)
VALUES (@c, @i, 1 + FLOOR(RAND() * 9), REPEAT('r', FLOOR(RAND() * 150)));
UPDATE item SET stock = stock - 1 WHERE id = @i;
SELECT p.id, i.title, p.amount * i.price AS total, p.remark
FROM purchase p JOIN item i ON i.id = p.item
WHERE p.customer = @c ORDER BY total DESC LIMIT 10;
SELECT c.city, COUNT(*) AS buyers, SUM(p.amount) AS amount
FROM purchase p JOIN customer c ON c.id = p.customer
WHERE p.item = @i GROUP BY c.city ORDER BY buyers DESC, c.city LIMIT 5;
SELECT GROUP_CONCAT(title ORDER BY price DESC SEPARATOR ', ') FROM item WHERE id BETWEEN @i AND @i + 20;
SELECT JSON_OBJECT('name', name, 'city', city, 'note', note) FROM customer
WHERE city = CONCAT('city ', @c % 97);
UPDATE customer SET note = LEFT(CONCAT('seen ', note), 180) WHERE id = @c;
DELETE FROM purchase WHERE id = LAST_INSERT_ID() AND amount = 9;
