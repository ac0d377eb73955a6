# A redis server on a socket in this folder, and redis's own load generator. The generator's keys are
# random, so only what holds for any keys is printed.
set -eu
umask 077
redis-server --port 0 --unixsocket "$PWD/s" --save '' --appendonly no --dir "$PWD" \
    --databases 2 --daemonize no > server.log &
server=$!
ask() { redis-cli -s "$PWD/s" "$@"; }
tries=0
until ask ping > /dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -lt 1000 ] || { echo 'the server does not answer' >&2; exit 1; }
    sleep 0.01
done
load() { redis-benchmark -s "$PWD/s" -q "$@" > load.log 2>&1 || { cat load.log >&2; exit 1; }; }
load -n 100000 -P 32 -c 8 -d 120 -r 20000 -t set,get,incr
load -n 50000 -P 32 -c 8 -d 64 -t lpush,rpush,lpop
load -n 50000 -P 32 -c 8 -r 5000 -t sadd,hset
ask flushall
# These keys and values are known.
i=0
while [ "$i" -lt 20000 ]; do
    echo "SET key:$i value-$i-$((i * i))"
    echo "RPUSH list:$((i % 100)) $i"
    i=$((i + 1))
done | redis-cli -s "$PWD/s" > replies
sort replies | uniq -c | sort -rn | head -n 3
ask dbsize
ask get key:12345
ask lrange list:7 -3 -1
ask shutdown nosave
wait "$server"
