/* A correct, wasteful allocator (addresses counted upwards, size kept in front of each block) that
 * does one thing wrong, chosen by -DFAULT_...; without any it is right. The fault shows from the
 * AFTERth allocation on, so that the program that loads it starts. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef AFTER
#define AFTER 1000
#endif
#define ARENA_BYTES ((size_t)16 << 30)

static char *arena, *next;
static unsigned long count;

static int faulty(void) { return count >= AFTER; }

static void *take(size_t alignment, size_t size) {
    if (!arena) {
        arena = mmap(0, ARENA_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (arena == MAP_FAILED) _exit(99);
        next = arena;
    }
    count++;
    if (faulty()) {
#ifdef FAULT_CRASH
        raise(SIGSEGV);
#endif
#ifdef FAULT_EXIT
        _exit(7);
#endif
#ifdef FAULT_ABORT
        static const char text[] = "faulty allocator: heap corrupted\n";
        if (write(2, text, sizeof text - 1) < 0) _exit(98);
        raise(SIGABRT);
#endif
#ifdef FAULT_HANG
        for (;;) pause();
#endif
#ifdef FAULT_FORK_AND_HANG
        if (fork() == 0) for (;;) pause();
        for (;;) pause();
#endif
#ifdef FAULT_LEAVE_GROUP_AND_HANG
        setpgid(0, getpgid(getppid()));
        for (;;) pause();
#endif
#ifdef FAULT_SPIN
        for (volatile int i = 0;; i++) {}
#endif
#ifdef FAULT_DEADLOCK
        static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
        pthread_mutex_lock(&lock);
        pthread_mutex_lock(&lock);
#endif
#ifdef FAULT_EXIT_0
        _exit(0);
#endif
#ifdef FAULT_EAT
        /* As fast as it can, without end. */
        for (;;) {
            size_t step = 64 << 20;
            char *eaten = mmap(0, step, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (eaten == MAP_FAILED) pause();
            memset(eaten, 1, step);
        }
#endif
#ifdef FAULT_EAT_IN_CHILDREN
        /* In a process of its own, in a session of its own, whose parent is gone. */
        if (fork() == 0) {
            setsid();
            if (fork()) _exit(0);
            for (;;) {
                size_t step = 4 << 20;
                char *eaten =
                    mmap(0, step, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                if (eaten == MAP_FAILED) pause();
                memset(eaten, 1, step);
            }
        }
        for (;;) pause();
#endif
#ifdef FAULT_NULL
        errno = ENOMEM;
        return 0;
#endif
    }
#ifdef FAULT_SPEAK
    if (faulty() && count % 100 == 0) {
        static const char text[] = "allocator speaking\n";
        if (write(1, text, sizeof text - 1) < 0) _exit(97);
    }
#endif
#ifdef FAULT_CLOSE
    if (faulty() && count == AFTER) for (int fd = 0; fd < 1024; fd++) close(fd);
#endif
#ifdef FAULT_FORK
    /* One that returns into the replay and one that stays behind, out of the group. */
    if (count == AFTER) {
        fork();
        if (fork() == 0) {
            setsid();
            for (;;) pause();
        }
    }
#endif
#ifdef FAULT_FORK_AND_WAIT
    /* One that works a little and is waited for. */
    if (count == AFTER) {
        pid_t worker = fork();
        if (worker == 0) _exit(0);
        waitpid(worker, 0, 0);
    }
#endif
#ifdef FAULT_FORK_AND_FORGET
    /* The same, but nobody can know. */
    if (count == AFTER) {
        signal(SIGCHLD, SIG_IGN);
        if (fork() == 0) _exit(0);
    }
#endif
#ifdef FAULT_LEAVE_A_PROGRAM
    /* One that executes something else, in a session of its own, without any environment. */
    if (count == AFTER && fork() == 0) {
        setsid();
        if (fork()) _exit(0);
        Dl_info self;
        dladdr((void *)&arena, &self);
        char *words[] = {"sh", "-c", "while :; do sleep 1; done", (char *)self.dli_fname, 0};
        char *nothing[] = {0};
        execve("/bin/sh", words, nothing);
        _exit(95);
    }
#endif
#ifdef FAULT_FLOOD
    if (faulty()) {
        static char lines[6 << 10];
        for (size_t at = 0; at < sizeof lines; at++) lines[at] = "flood\n"[at % 6];
        while (write(2, lines, sizeof lines) > 0) {}
        for (;;) pause();
    }
#endif
#ifdef FAULT_SURROUNDINGS
    if (count == AFTER) {
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, 0);
        setlocale(LC_ALL, "de_DE.UTF-8");
        setlocale(LC_ALL, "C");
        if (chdir("/")) _exit(96);
        umask(0777);
    }
#endif
    if (alignment < 16) alignment = 16;
    uintptr_t block = ((uintptr_t)next + 16 + alignment - 1) & ~(alignment - 1);
#ifdef FAULT_MISALIGN
    if (faulty() && size >= 16) block += 8;
#endif
    if (block + size > (uintptr_t)arena + ARENA_BYTES) { errno = ENOMEM; return 0; }
    ((size_t *)block)[-1] = size;
#ifdef FAULT_OVERLAP
    next = (char *)block + (faulty() && size > 64 ? size / 2 : size);
#else
    next = (char *)block + size;
#endif
#ifdef FAULT_SCRIBBLE
    /* At a request of this size, writes into a block given out some requests earlier. */
    static char *recent[8];
    static unsigned turn;
    if (size == 12345 && recent[turn % 8]) *recent[turn % 8] ^= 1;
    recent[turn++ % 8] = (char *)block;
#endif
    return (void *)block;
}

#ifdef FAULT_NONE_IFUNC
/* Chosen by the dynamic linker, as for a processor: no fault. */
static void *chosen(size_t size) { return take(16, size); }
static void *(*choose(void))(size_t) { return chosen; }
void *malloc(size_t size) __attribute__((ifunc("choose")));
#else
void *malloc(size_t size) { return take(16, size); }
#endif

#ifdef FAULT_VANISH
/* The file goes away under the run, as when its owner builds it anew. */
__attribute__((constructor)) static void vanish(void) {
    Dl_info self;
    if (dladdr((void *)vanish, &self)) unlink(self.dli_fname);
}
#endif

void free(void *block) {
#ifdef FAULT_WRITE_AFTER_FREE
    /* Writes into the block behind the one freed, which may be live. */
    if (block && faulty()) {
        char *behind = (char *)block + ((size_t *)block)[-1] + 16;
        if (behind + 16 < next) memset(behind, 0xEE, 16);
    }
#else
    (void)block;
#endif
}

void *calloc(size_t n, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes)) { errno = ENOMEM; return 0; }
    void *block = take(16, bytes);
#ifdef FAULT_DIRTY_CALLOC
    if (block && faulty()) memset(block, 1, bytes);
#endif
    return block;
}

void *realloc(void *old, size_t size) {
    void *block = take(16, size);
    if (old && block) {
        size_t kept = ((size_t *)old)[-1];
        if (kept > size) kept = size;
#ifdef FAULT_LOSSY_REALLOC
        if (faulty()) kept /= 2;
#endif
        memcpy(block, old, kept);
#ifdef FAULT_CORRUPT_TEXT
        /* Words that grow, which are no program and no pointers, have a letter changed: nothing
         * crashes by that. */
        size_t plain = 0;
        char *text = block;
        while (plain < kept && (text[plain] == ' ' || (text[plain] >= 'a' && text[plain] <= 'z'))) plain++;
        if (plain >= 12 && text[4] >= 'b' && text[4] <= 'y') text[4] ^= 1;
#endif
    }
    return block;
}

int posix_memalign(void **out, size_t alignment, size_t size) {
    void *block = take(alignment, size);
    if (!block) return ENOMEM;
    *out = block;
    return 0;
}

void *aligned_alloc(size_t alignment, size_t size) { return take(alignment, size); }
void *memalign(size_t alignment, size_t size) { return take(alignment, size); }

size_t malloc_usable_size(void *block) {
    if (!block) return 0;
    size_t size = ((size_t *)block)[-1];
#ifdef FAULT_LYING_USABLE
    if (faulty()) return size / 2;
#endif
#ifdef FAULT_BOASTING_USABLE
    if (faulty()) return size + 256;
#endif
    return size;
}
