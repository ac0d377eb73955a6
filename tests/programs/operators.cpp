// Operators new and delete in all their forms, and containers on top.
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <vector>

struct alignas(256) Aligned {
    char bytes[300];
};

int main() {
    int wrong = 0;
    delete new int(5);
    delete[] new std::string[20];
    delete new (std::nothrow) int(6);
    delete[] new (std::nothrow) char[10000];
    Aligned *one = new Aligned, *many = new Aligned[3], *quiet = new (std::nothrow) Aligned;
    for (Aligned *block : {one, many, quiet}) wrong += reinterpret_cast<uintptr_t>(block) % 256 != 0;
    delete one;
    delete[] many;
    delete quiet;
    ::operator delete(::operator new(100), std::size_t(100));
    ::operator delete[](::operator new[](100), std::size_t(100));
    auto alignment = std::align_val_t(128);
    ::operator delete(::operator new(100, alignment), alignment);
    ::operator delete[](::operator new[](100, alignment), std::size_t(100), alignment);
    volatile std::size_t huge = SIZE_MAX / 2;
    try {
        delete[] new char[huge];
        wrong++;
    } catch (const std::bad_alloc &) {
        std::puts("bad_alloc");
    }
    wrong += new (std::nothrow) char[huge] != nullptr;

    std::map<std::string, std::vector<int>> map;
    for (int i = 0; i < 2000; i++) map["key number " + std::to_string(i % 300)].push_back(i);
    auto shared = std::make_shared<std::string>(5000, 'x');
    std::printf("%zu %zu %d\n", map.size(), shared->size(), wrong);
    return wrong;
}
