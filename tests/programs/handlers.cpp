// What C++ asks of operator new where there is no memory: the handler is called until it gives up by an
// exception, by ending, or by taking itself away; frames are unwound; memory that it gives back is used.
#include <cstdio>
#include <cstdlib>
#include <new>
#include <sys/resource.h>

static volatile std::size_t huge = std::size_t(1) << 46;
static int calls, unwound;
static void *reserve;

struct Counts {
    ~Counts() { unwound++; }
};

struct Own : std::bad_alloc {
    const char *what() const noexcept override { return "own"; }
};

static void throws_own() {
    calls++;
    throw Own();
}
static void third_time_is_enough() {
    if (++calls == 3) std::set_new_handler(nullptr);
}
static void gives_back() {
    calls++;
    std::free(reserve);
    reserve = nullptr;
    std::set_new_handler(nullptr);
}

template <typename Allocate> static void attempt(const char *name, Allocate allocate) {
    calls = unwound = 0;
    const char *caught = "nothing";
    try {
        Counts outer;
        Counts inner;
        allocate();
    } catch (const Own &) {
        caught = "own";
    } catch (const std::bad_alloc &) {
        caught = "bad_alloc";
    }
    std::printf("%s: %s, %d calls, %d unwound\n", name, caught, calls, unwound);
}

int main() {
    attempt("plain", [] { ::operator delete(::operator new(huge)); });
    attempt("array", [] { ::operator delete[](::operator new[](huge)); });
    attempt("aligned", [] { ::operator delete(::operator new(huge, std::align_val_t(64)), std::align_val_t(64)); });
    std::set_new_handler(throws_own);
    attempt("handler throws", [] { ::operator delete(::operator new(huge)); });
    attempt("handler throws, array", [] { ::operator delete[](::operator new[](huge)); });
    attempt("handler throws, nothrow", [] { ::operator delete(::operator new(huge, std::nothrow)); });
    std::set_new_handler(third_time_is_enough);
    attempt("handler three times", [] { ::operator delete(::operator new(huge)); });

    reserve = std::malloc(600 << 20);
    struct rlimit limit = {rlim_t(1) << 30, RLIM_INFINITY};
    setrlimit(RLIMIT_AS, &limit);
    std::set_new_handler(gives_back);
    attempt("handler gives back", [] { ::operator delete(::operator new(500 << 20)); });
    return 0;
}
