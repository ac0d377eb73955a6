/* Mistakes with allocated memory: what the files of this folder share.
 *
 * A mistake is a function. Before it and after it the program looks after blocks that have nothing to do
 * with it (bystanders), so that what an unnoticed mistake does to others is told. */
#ifndef MISUSE_H
#define MISUSE_H

#include <stddef.h>

struct mistake {
    const char *name;
    void (*make)(void);
};

/* Each file's mistakes, ended by one without a name. */
extern const struct mistake freed_mistakes[], pointer_mistakes[], foreign_mistakes[], write_mistakes[],
    size_mistakes[];

/* Keeps the compiler from knowing what an allocation returns or is for. */
static inline void *hide(void *pointer) {
    __asm__ volatile("" : "+r"(pointer) : : "memory");
    return pointer;
}

/* A block of so many bytes, each of them 1. */
char *take(size_t size);
/* free, of whatever it is. */
void drop(void *block);
/* The same in a thread of its own, which has ended afterwards. */
void drop_in_thread(void *block);

/* One line on standard output at once, so that it is there however the program ends. */
void say(const char *line);

/* Blocks that are filled and looked after from then on, as the bystanders are. */
void take_some(size_t size, int count);

/* Around a write into memory that is not the program's. Whoever ends it at the write itself, by a page
 * that faults, is told apart from who crashes later; and what is written over is no sign of corruption. */
void begin_write(const void *start, size_t bytes);
void end_write(void);

/* Memory that no block may ever lie in. */
void forbid(const void *start, size_t bytes);

/* Ends the program: the allocator refused, or what the mistake needs is not there. */
void refused(void) __attribute__((noreturn));
void granted(const char *what) __attribute__((noreturn));
void skip(const char *why) __attribute__((noreturn));

/* C++'s operators and C23's functions, wherever they are: null if nowhere. */
void *function(const char *name);

#endif
