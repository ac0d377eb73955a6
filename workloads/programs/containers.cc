// Templates of the standard library: maps, strings, algorithms, ranges of them. Compiled, not run.
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

struct Line {
    std::string article;
    unsigned count;
    unsigned long cents;
};

struct Order {
    unsigned long id;
    std::string customer;
    std::vector<Line> lines;
    std::map<std::string, std::string> tags;
};

using Value = std::variant<long, double, std::string, std::vector<Line>, std::shared_ptr<Order>>;

template <typename Key, typename Of>
std::map<Key, std::vector<Order>> grouped(const std::vector<Order> &orders, Of of) {
    std::map<Key, std::vector<Order>> groups;
    for (const auto &order : orders) groups[of(order)].push_back(order);
    return groups;
}

unsigned long total(const Order &order) {
    return std::accumulate(order.lines.begin(), order.lines.end(), 0ul,
                           [](unsigned long sum, const Line &line) { return sum + line.count * line.cents; });
}

std::unordered_map<std::string, std::set<unsigned long>> index_of(const std::vector<Order> &orders) {
    std::unordered_map<std::string, std::set<unsigned long>> index;
    for (const auto &order : orders)
        for (const auto &line : order.lines) index[line.article].insert(order.id);
    return index;
}

std::string shown(const Value &value) {
    struct Show {
        std::string operator()(long number) const { return std::to_string(number); }
        std::string operator()(double number) const { return std::to_string(number); }
        std::string operator()(const std::string &text) const { return text; }
        std::string operator()(const std::vector<Line> &lines) const { return std::to_string(lines.size()); }
        std::string operator()(const std::shared_ptr<Order> &order) const { return order->customer; }
    };
    return std::visit(Show{}, value);
}

std::vector<std::string> report(std::vector<Order> orders) {
    std::sort(orders.begin(), orders.end(), [](const Order &a, const Order &b) { return total(a) < total(b); });
    std::vector<std::string> rows;
    for (const auto &[customer, group] : grouped<std::string>(orders, [](const Order &o) { return o.customer; }))
        rows.push_back(customer + ": " + std::to_string(std::accumulate(group.begin(), group.end(), 0ul,
            [](unsigned long sum, const Order &order) { return sum + total(order); })));
    for (const auto &[article, ids] : index_of(orders)) rows.push_back(article + std::to_string(ids.size()));
    for (const auto &[lines, group] : grouped<std::size_t>(orders, [](const Order &o) { return o.lines.size(); }))
        rows.push_back(shown(Value{static_cast<long>(lines)}) + shown(Value{std::make_shared<Order>(group.front())}));
    std::function<bool(const std::string &, const std::string &)> shorter =
        [](const std::string &a, const std::string &b) { return a.size() < b.size(); };
    std::stable_sort(rows.begin(), rows.end(), shorter);
    return rows;
}
