-- What clients of PostgreSQL ask about pgbench's tables besides pgbench's own transaction: joins, sums
-- and sorting, documents as JSON, and text.
\set a random(1, 100000)
\set t random(1, 10)
SELECT t.tid, t.tbalance, count(*), sum(a.abalance), max(length(a.filler))
FROM pgbench_accounts a JOIN pgbench_tellers t ON t.tid = 1 + a.aid % 10
WHERE a.aid BETWEEN :a AND :a + 200 GROUP BY t.tid, t.tbalance ORDER BY 3 DESC, 1;
SELECT json_agg(row_to_json(a)) FROM pgbench_accounts a WHERE aid BETWEEN :a AND :a + 20;
SELECT jsonb_object_agg(aid::text, jsonb_build_object('balance', abalance, 'branch', bid))
FROM pgbench_accounts WHERE aid BETWEEN :a AND :a + 50;
SELECT string_agg(upper(aid || ' of ' || bid), ',' ORDER BY aid DESC) FROM pgbench_accounts
WHERE aid BETWEEN :a AND :a + 100;
SELECT count(DISTINCT word) FROM (
    SELECT unnest(string_to_array(repeat('one two ' || aid || ' ', 5), ' ')) AS word
    FROM pgbench_accounts WHERE aid BETWEEN :a AND :a + 20
) AS words;
SELECT delta, tid FROM pgbench_history WHERE tid = :t ORDER BY mtime DESC LIMIT 5;
