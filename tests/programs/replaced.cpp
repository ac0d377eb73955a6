// A program that replaces the simple operators new and delete, with a header in front of each block. The
// other forms are made of these, so every block has one, whoever provides those forms.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

static long made, ended;
static const std::uint64_t mark = 0x5265706c61636564;

void *operator new(std::size_t size) {
    if (size > (std::size_t(1) << 40)) throw std::bad_alloc();
    auto *block = static_cast<std::uint64_t *>(std::malloc(size + 16));
    *block = mark;
    made++;
    return block + 2;
}

void operator delete(void *pointer) noexcept {
    if (!pointer) return;
    auto *block = static_cast<std::uint64_t *>(pointer) - 2;
    if (*block != mark) {
        std::fprintf(stderr, "deleted what was not made here\n");
        std::_Exit(1);
    }
    *block = 0;
    ended++;
    std::free(block);
}

struct Derived : std::string {
    long numbers[9];
};

int main() {
    delete new int(5);
    delete[] new std::string[20];
    delete new (std::nothrow) int(6);
    delete[] new (std::nothrow) char[10000];
    delete new Derived;
    ::operator delete(::operator new(100), std::size_t(100));
    ::operator delete[](::operator new[](100), std::size_t(100));
    ::operator delete[](::operator new[](100));
    ::operator delete(::operator new(100), std::nothrow);
    ::operator delete[](::operator new[](100), std::nothrow);
    {
        std::vector<std::string> words;
        for (int i = 0; i < 1000; i++) words.push_back("a word that is too long to lie in place " + std::to_string(i));
    }
    volatile std::size_t huge = std::size_t(1) << 41;
    int caught = 0;
    try {
        delete[] new char[huge];
    } catch (const std::bad_alloc &) {
        caught++;
    }
    if (new (std::nothrow) char[huge]) caught = 99;
    std::printf("%ld %ld %d\n", made, made - ended, caught);
    return 0;
}
