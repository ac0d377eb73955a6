-- Fills two tables in memory and asks of them. Prints whole numbers and text only.
PRAGMA temp_store = MEMORY;
CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT, city TEXT, born INTEGER);
CREATE TABLE payment (person INTEGER, amount INTEGER, note TEXT);
BEGIN;
WITH RECURSIVE n(i, r) AS (
    SELECT 1, 1 UNION ALL SELECT i + 1, (r * 16807) % 2147483647 FROM n WHERE i < 60000)
INSERT INTO person
SELECT i, 'name' || (r % 20011), 'city' || (r % 211), 1930 + r % 90 FROM n;
WITH RECURSIVE n(i, r) AS (
    SELECT 1, 7 UNION ALL SELECT i + 1, (r * 16807) % 2147483647 FROM n WHERE i < 200000)
INSERT INTO payment
SELECT 1 + r % 60000, r % 9973, 'payment ' || substr('for rent, food, books, tools', 1 + r % 20) FROM n;
COMMIT;
CREATE INDEX payment_person ON payment (person);
CREATE INDEX person_name ON person (name, city);
SELECT count(*), sum(amount), count(DISTINCT note) FROM payment;
SELECT city, count(*), sum(amount) FROM person JOIN payment ON person = id
GROUP BY city ORDER BY sum(amount) DESC, city LIMIT 20;
SELECT name, count(DISTINCT city), group_concat(DISTINCT born % 10) <> '' FROM person
GROUP BY name ORDER BY count(*) DESC, name LIMIT 20;
SELECT born / 10 * 10 AS decade, max(amount), min(note) FROM person JOIN payment ON person = id
WHERE note LIKE '%food%' GROUP BY decade ORDER BY decade;
UPDATE payment SET note = upper(note) || ' (' || amount || ')' WHERE amount % 3 = 0;
DELETE FROM payment WHERE amount % 7 = 0;
SELECT count(*), sum(length(note)) FROM payment;
SELECT count(*) FROM (SELECT a.name FROM person a JOIN person b USING (name) WHERE a.id < b.id);
