/* One mistake with allocated memory, chosen by its name. An allocator that notices ends the program;
 * one that does not lets it print "unnoticed" and end well.
 *
 *   misuse            prints the names
 *   misuse NAME
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Keeps the compiler from knowing what an allocation returns or is for. */
static void *hide(void *pointer) {
    __asm__ volatile("" : "+r"(pointer) : : "memory");
    return pointer;
}

static char *take(size_t size) {
    char *block = hide(malloc(size));
    memset(block, 1, size);
    return block;
}

static void drop(void *block) { free(hide(block)); }

static void twice(size_t size) {
    char *block = take(size);
    drop(block);
    drop(block);
}
static void twice_16(void) { twice(16); }
static void twice_64(void) { twice(64); }
static void twice_1000(void) { twice(1000); }
static void twice_10000(void) { twice(10000); }
static void twice_medium(void) { twice(100000); }
static void twice_large(void) { twice(1000000); }
static void twice_huge(void) { twice(200 << 20); }

static void twice_with_others_between(void) {
    char *blocks[100];
    for (int i = 0; i < 100; i++) blocks[i] = take(48);
    for (int i = 0; i < 100; i++) drop(blocks[i]);
    drop(blocks[3]);
}
static void twice_after_thousands(void) {
    static char *blocks[20000];
    for (int i = 0; i < 20000; i++) blocks[i] = take(80);
    for (int i = 0; i < 20000; i++) drop(blocks[i]);
    drop(blocks[7777]);
}
static void twice_overwritten(void) {
    char *block = take(64);
    drop(block);
    memset(hide(block), 0x41, 64);
    drop(block);
}
static void *drop_in_thread(void *block) {
    drop(block);
    return NULL;
}
static void twice_by_another_thread(void) {
    pthread_t thread;
    char *block = take(64);
    if (pthread_create(&thread, NULL, drop_in_thread, block)) return;
    pthread_join(thread, NULL);
    drop(block);
}
static void twice_by_realloc(void) {
    char *block = take(64);
    drop(block);
    hide(realloc(hide(block), 128));
}
static void twice_after_realloc_moved(void) {
    char *block = take(64);
    char *moved = hide(realloc(block, 5000));
    if (moved != block) drop(block);
    drop(block);
}
static void size_of_freed(void) {
    char *block = take(64);
    drop(block);
    if (malloc_usable_size(hide(block)) == 0) abort();
}
static void twice_aligned(void) {
    void *block = hide(aligned_alloc(256, 512));
    drop(block);
    drop(block);
}

static void inside_small(void) { drop(take(64) + 16); }
static void inside_small_far(void) { drop(take(1000) + 512); }
static void inside_slice_neighbour(void) { drop(take(160) + 32); }
static void inside_medium(void) { drop(take(100000) + 4096); }
static void inside_large(void) { drop(take(1000000) + 65536); }
static void inside_huge(void) { drop(take(100 << 20) + (64 << 20)); }
static void inside_by_realloc(void) { hide(realloc(take(64) + 16, 100)); }
static void before_the_block(void) { drop(take(64) - 16); }
static void misaligned_1(void) { drop(take(64) + 1); }
static void misaligned_8(void) { drop(take(64) + 8); }
static void misaligned_large(void) { drop(take(1000000) + 8); }
static void never_handed_out(void) { drop(take(1000) + 20 * 1024); }

static void foreign_stack(void) {
    long long place[8] = {0};
    drop((void *)(((uintptr_t)place + 15) & ~(uintptr_t)15));
}
static long long data[1024] = {1};
static void foreign_data(void) { drop((void *)(((uintptr_t)data + 15) & ~(uintptr_t)15)); }
static void foreign_code(void) { drop((void *)(((uintptr_t)foreign_data) & ~(uintptr_t)15)); }
static void foreign_small_number(void) { drop((void *)(uintptr_t)0x30); }
static void foreign_unmapped(void) { drop((void *)(uintptr_t)0x123456789000); }
static void foreign_kernel(void) { drop((void *)(uintptr_t)0xffffffff81000000); }
static void foreign_non_canonical(void) { drop((void *)(uintptr_t)0x4141414141414140); }
static void foreign_tagged(void) { drop((void *)((uintptr_t)take(64) | (uintptr_t)1 << 60)); }
static void foreign_by_realloc(void) { hide(realloc((void *)(uintptr_t)0x123456789000, 10)); }

static const struct {
    const char *name;
    void (*make)(void);
} mistakes[] = {
#define MISTAKE(name) {#name, name}
    MISTAKE(twice_16), MISTAKE(twice_64), MISTAKE(twice_1000), MISTAKE(twice_10000),
    MISTAKE(twice_medium), MISTAKE(twice_large), MISTAKE(twice_huge),
    MISTAKE(twice_with_others_between), MISTAKE(twice_after_thousands), MISTAKE(twice_overwritten),
    MISTAKE(twice_by_another_thread), MISTAKE(twice_by_realloc), MISTAKE(twice_after_realloc_moved),
    MISTAKE(size_of_freed), MISTAKE(twice_aligned),
    MISTAKE(inside_small), MISTAKE(inside_small_far), MISTAKE(inside_slice_neighbour),
    MISTAKE(inside_medium), MISTAKE(inside_large), MISTAKE(inside_huge), MISTAKE(inside_by_realloc),
    MISTAKE(before_the_block), MISTAKE(misaligned_1), MISTAKE(misaligned_8),
    MISTAKE(misaligned_large), MISTAKE(never_handed_out),
    MISTAKE(foreign_stack), MISTAKE(foreign_data), MISTAKE(foreign_code),
    MISTAKE(foreign_small_number), MISTAKE(foreign_unmapped), MISTAKE(foreign_kernel),
    MISTAKE(foreign_non_canonical), MISTAKE(foreign_tagged), MISTAKE(foreign_by_realloc),
};

int main(int count, char **arguments) {
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        if (count < 2) {
            puts(mistakes[i].name);
        } else if (!strcmp(arguments[1], mistakes[i].name)) {
            mistakes[i].make();
            puts("unnoticed");
        }
    }
    return 0;
}
