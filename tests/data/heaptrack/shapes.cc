// What the heaptrack fixtures were recorded of: every call that heaptrack sees, and two that it
// does not. Build with: g++ -g -O0 -o shapes shapes.cc -pthread
#include <cstdlib>
#include <malloc.h>
#include <new>
#include <thread>

struct Circle { double x, y, radius; };

static void *volatile kept;

static void in_thread(void *of_main)
{
    void *own = std::malloc(777);
    std::free(of_main);
    std::free(own);
}

int main()
{
    void *first = std::malloc(42);
    void *zeroed = std::calloc(4, 25);
    zeroed = std::realloc(zeroed, 3000);
    Circle *circle = new Circle;
    Circle *circles = new Circle[10];
    for (int round = 0; round < 3; round++)
        std::free(std::malloc(1000));
    void *one = std::malloc(5000), *two = std::malloc(5001);
    void *unseen = memalign(256, 100000);
    void *seen = nullptr;
    if (posix_memalign(&seen, 64, 640))
        return 1;
    std::free(unseen);
    std::thread(in_thread, first).join();
    std::free(nullptr);
    delete circle;
    delete[] circles;
    std::free(two);
    std::free(one);
    std::free(seen);
    std::free(zeroed);
    kept = std::malloc(99);
    return 0;
}
