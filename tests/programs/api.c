/* Exercises the whole malloc API from every place a program allocates in. What it prints does not
 * depend on the allocator, so its output under a preloaded one can be compared with a plain run.
 *
 *   api            everything; prints what was done, exit code 1 at the first thing that is wrong
 *   api receipt    prints the object that each function came from
 *   api bad        frees what may not be freed, and goes on
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "api.c:%d: wrong: %s\n", __LINE__, #condition); \
            _exit(1); \
        } \
    } while (0)

/* Keeps the compiler from knowing what an allocation returns or is for. */
static void *hide(void *pointer) {
    __asm__ volatile("" : "+r"(pointer) : : "memory");
    return pointer;
}

static char *from_constructor;

__attribute__((constructor)) static void before_main(void) {
    from_constructor = malloc(40);
    strcpy(from_constructor, "allocated before main");
    free(hide(malloc(20000)));
}

static void at_exit(void) {
    char *block = hide(malloc(30));
    strcpy(block, "allocated in an exit handler");
    puts(block);
    free(block);
    free(from_constructor);
    fflush(stdout);
}

static void check_functions(void) {
    unsigned char *block = hide(calloc(25, 40));
    for (int i = 0; i < 1000; i++) CHECK(block[i] == 0);
    memset(block, 7, 1000);
    block = hide(realloc(block, 50000));
    for (int i = 0; i < 1000; i++) CHECK(block[i] == 7);
    block = hide(reallocarray(block, 10, 10));
    for (int i = 0; i < 100; i++) CHECK(block[i] == 7);
    CHECK(malloc_usable_size(block) >= 100);
    errno = 55;
    free(block);
    CHECK(errno == 55);

    size_t alignments[] = {16, 32, 64, 256, 4096, 65536};
    for (int i = 0; i < 6; i++) {
        size_t alignment = alignments[i];
        void *blocks[3] = {hide(aligned_alloc(alignment, 2 * alignment)), hide(memalign(alignment, 5)), NULL};
        errno = 55;
        CHECK(posix_memalign(&blocks[2], alignment, 100) == 0 && errno == 55);
        for (int j = 0; j < 3; j++) {
            CHECK(blocks[j] && (uintptr_t)blocks[j] % alignment == 0);
            free(blocks[j]);
        }
    }
    void *unused = &unused;
    CHECK(posix_memalign(&unused, 3, 8) == EINVAL && posix_memalign(&unused, 4, 8) == EINVAL);
    CHECK(unused == &unused);
    void *whole = hide(valloc(10)), *pages = hide(pvalloc(10));
    CHECK((uintptr_t)whole % 4096 == 0 && (uintptr_t)pages % 4096 == 0);
    CHECK(malloc_usable_size(pages) >= 4096);
    free(whole);
    free(pages);

    volatile size_t huge = SIZE_MAX - 100;
    errno = 0;
    CHECK(!hide(malloc(huge)) && errno == ENOMEM);
    errno = 0;
    CHECK(!hide(calloc(huge, 3)) && errno == ENOMEM);
    errno = 0;
    CHECK(!hide(reallocarray(NULL, huge, 3)) && errno == ENOMEM);
    void *empty = hide(malloc(0)), *other = hide(malloc(0));
    CHECK(empty && other && empty != other);
    free(empty);
    free(other);
    free(NULL);
    puts("functions");
}

static pthread_key_t key;

static void key_destructor(void *value) {
    free(value);
    free(hide(malloc(100)));
}

static void *thread(void *argument) {
    unsigned seed = (unsigned)(uintptr_t)argument;
    char *blocks[32] = {0};
    pthread_setspecific(key, hide(malloc(64)));
    for (int i = 0; i < 2000; i++) {
        seed = seed * 1103515245 + 12345;
        int at = seed >> 16 & 31;
        size_t size = (seed >> 8 & 1023) + (i % 100 == 0 ? 8000 : 8);
        if (blocks[at]) CHECK(blocks[at][0] == (char)at && blocks[at][7] == (char)at);
        free(blocks[at]);
        blocks[at] = hide(malloc(size));
        memset(blocks[at], at, size);
    }
    for (int i = 1; i < 32; i++) free(blocks[i]);
    /* Outlives the thread. */
    return blocks[0] ? blocks[0] : hide(malloc(1));
}

static volatile sig_atomic_t ticks;

static void tick(int number) {
    (void)number;
    ticks++;
}

static void check_threads(void) {
    pthread_t threads[4];
    struct itimerval timer = {{0, 500}, {0, 500}}, none = {{0, 0}, {0, 0}};
    CHECK(pthread_key_create(&key, key_destructor) == 0);
    /* Signals interrupt allocations and waits for the lock. */
    signal(SIGALRM, tick);
    setitimer(ITIMER_REAL, &timer, NULL);
    for (uintptr_t i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, thread, (void *)(i + 1)) == 0);
    for (int forks = 0; forks < 20; forks++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            setitimer(ITIMER_REAL, &none, NULL);
            signal(SIGALRM, SIG_DFL);
            alarm(20);
            char *block = hide(malloc(1000));
            memset(block, 1, 1000);
            free(hide(realloc(block, 100000)));
            _exit(0);
        }
        int status;
        while (waitpid(child, &status, 0) < 0) CHECK(errno == EINTR);
        CHECK(status == 0);
    }
    for (int i = 0; i < 4; i++) {
        void *left;
        CHECK(pthread_join(threads[i], &left) == 0);
        free(left);
    }
    setitimer(ITIMER_REAL, &none, NULL);
    puts("threads, forks beside them, signals");
}

static void *short_thread(void *argument) {
    pthread_setspecific(key, hide(malloc(64)));
    free(hide(malloc(200)));
    return argument;
}

static long resident_pages(void) {
    long size, resident;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file && fscanf(file, "%ld %ld", &size, &resident) == 2);
    fclose(file);
    return resident;
}

static void check_many_threads(void) {
    long before = 0;
    for (int i = 0; i < 10000; i++) {
        pthread_t id;
        CHECK(pthread_create(&id, NULL, short_thread, NULL) == 0);
        CHECK(pthread_join(id, NULL) == 0);
        if (i == 100) before = resident_pages();
    }
    /* A page for every hundredth thread would be 100. */
    CHECK(resident_pages() - before < 64);
    puts("10000 threads, no growth");
}

static void check_dlopen(void) {
    void *library = dlopen("libm.so.6", RTLD_NOW);
    CHECK(library);
    double (*cosine)(double) = (double (*)(double))dlsym(library, "cos");
    CHECK(cosine && cosine(0) == 1);
    CHECK(!dlsym(library, "no_such_symbol") && dlerror());
    CHECK(dlclose(library) == 0);
    CHECK(!dlopen("/no/such/library.so", RTLD_NOW));
    CHECK(strstr(dlerror(), "no/such"));
    puts("dlopen, dlsym, dlerror");
}

static void receipt(void) {
    static const char *names[] = {
        "malloc", "free", "calloc", "realloc", "reallocarray", "posix_memalign", "aligned_alloc",
        "memalign", "valloc", "pvalloc", "malloc_usable_size"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        Dl_info info;
        void *function = dlsym(RTLD_DEFAULT, names[i]);
        CHECK(function && dladdr(function, &info));
        printf("%s %s\n", names[i], info.dli_fname);
    }
}

static void bad(void) {
    char *block = hide(malloc(200)), *large = hide(malloc(50000)), local[64];
    memset(block, 3, 200);
    free(hide(block + 32));
    free(hide(block + 1));
    free(hide((char *)((uintptr_t)(local + 15) & ~(uintptr_t)15)));
    free(hide(large + 64));
    CHECK(block[0] == 3 && block[199] == 3 && malloc_usable_size(block) >= 200);
    char *neighbour = hide(malloc(200));
    volatile uintptr_t again = (uintptr_t)block;
    free(block);
    free((void *)again);
    free(neighbour);
    free(large);
    puts("survived");
}

int main(int count, char **arguments) {
    if (count > 1 && !strcmp(arguments[1], "receipt")) {
        receipt();
        return 0;
    }
    if (count > 1 && !strcmp(arguments[1], "bad")) {
        bad();
        return 0;
    }
    atexit(at_exit);
    puts(from_constructor);
    check_functions();
    check_threads();
    check_many_threads();
    check_dlopen();
    return 0;
}
