-- A shop, for MariaDB. One statement ends with each semicolon at the end of a line.
CREATE TABLE customer (
    id INT PRIMARY KEY, name VARCHAR(60) NOT NULL, city VARCHAR(40) NOT NULL, note TEXT, KEY (city)
);
CREATE TABLE item (
    id INT PRIMARY KEY, title VARCHAR(80) NOT NULL, price DECIMAL(8, 2) NOT NULL, stock INT NOT NULL
);
CREATE TABLE purchase (
    id INT AUTO_INCREMENT PRIMARY KEY, customer INT NOT NULL, item INT NOT NULL, amount INT NOT NULL,
    remark VARCHAR(200) NOT NULL, KEY (customer), KEY (item)
);
INSERT INTO customer
SELECT seq, CONCAT('customer ', seq), CONCAT('city ', seq % 97), REPEAT('note ', seq % 40)
FROM seq_1_to_2000;
INSERT INTO item
SELECT seq, CONCAT('item of kind ', seq * 31 % 23, ' number ', seq), seq * 7 % 90 + 0.99, 100000
FROM seq_1_to_500;
INSERT INTO purchase (customer, item, amount, remark)
SELECT 1 + seq * 7919 % 2000, 1 + seq * 104729 % 500, 1 + seq % 9, REPEAT('r', seq % 120)
FROM seq_1_to_10000;
