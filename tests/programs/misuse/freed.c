/* Blocks that are ended twice, or used as if they were not ended. */
#include "misuse.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static void twice(size_t size) {
    char *block = take(size);
    drop(block);
    drop(block);
}
static void twice_0(void) { twice(0); }
static void twice_16(void) { twice(16); }
static void twice_64(void) { twice(64); }
static void twice_1000(void) { twice(1000); }
static void twice_10000(void) { twice(10000); }
static void twice_medium(void) { twice(100000); }
static void twice_large(void) { twice(1000000); }
static void twice_huge(void) { twice(200 << 20); }

static void twice_zeroed(void) {
    void *block = hide(calloc(10, 10));
    drop(block);
    drop(block);
}
static void twice_aligned(void) {
    void *block = hide(aligned_alloc(256, 512));
    drop(block);
    drop(block);
}
static void twice_aligned_large(void) {
    void *block = hide(aligned_alloc(1 << 16, 1 << 17));
    drop(block);
    drop(block);
}

static void twice_with_another_between(void) {
    char *block = take(48), *other = take(48);
    drop(block);
    drop(other);
    drop(block);
}
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
static void twice_after_trim(void) {
    char *block = take(3000);
    drop(block);
    malloc_trim(0);
    drop(block);
}
static void twice_overwritten(void) {
    char *block = take(64);
    drop(block);
    begin_write(block, 64);
    memset(hide(block), 0x41, 64);
    end_write();
    drop(block);
}

static void twice_by_another_thread(void) {
    char *block = take(64);
    drop_in_thread(block);
    drop(block);
}
static void twice_in_another_thread(void) {
    char *block = take(64);
    drop(block);
    drop_in_thread(block);
}
static void twice_medium_by_another_thread(void) {
    char *block = take(50000);
    drop_in_thread(block);
    drop(block);
}

static void *take_in_thread(void *result) {
    *(char **)result = take(200);
    return NULL;
}
static void twice_after_its_thread_died(void) {
    pthread_t thread;
    char *block = NULL;
    if (pthread_create(&thread, NULL, take_in_thread, &block)) skip("no thread");
    pthread_join(thread, NULL);
    drop(block);
    drop(block);
}
static void *take_and_drop_in_thread(void *result) {
    take_in_thread(result);
    drop(*(char **)result);
    return NULL;
}
static void twice_after_both_in_a_thread_that_died(void) {
    pthread_t thread;
    char *block = NULL;
    if (pthread_create(&thread, NULL, take_and_drop_in_thread, &block)) skip("no thread");
    pthread_join(thread, NULL);
    drop(block);
}

static void twice_by_realloc(void) {
    char *block = take(64);
    drop(block);
    hide(realloc(hide(block), 128));
}
static void twice_by_realloc_large(void) {
    char *block = take(1000000);
    drop(block);
    hide(realloc(hide(block), 2000000));
}
static void twice_by_realloc_to_nothing(void) {
    char *block = take(64);
    /* Some hand out an empty block. */
    drop(realloc(hide(block), 0));
    drop(block);
}
static void twice_after_realloc_moved(void) {
    char *block = take(64);
    char *moved = hide(realloc(hide(block), 5000));
    if (moved != block) drop(block);
    drop(block);
}
static void size_of_freed(void) {
    char *block = take(64);
    drop(block);
    hide((void *)malloc_usable_size(hide(block)));
}

static void twice_by_delete(void) {
    void *(*new)(size_t) = function("_Znwm");
    void (*delete)(void *) = function("_ZdlPv");
    if (!new || !delete) skip("no C++ library");
    void *block = hide(new(40));
    delete(block);
    delete(hide(block));
}
static void delete_after_free(void) {
    void (*delete)(void *) = function("_ZdlPv");
    if (!delete) skip("no C++ library");
    char *block = take(40);
    drop(block);
    delete(hide(block));
}

/* In between the block went to somebody else, whose it is now. Nothing at the second free tells. */
static void twice_after_it_was_handed_out_again(void) {
    char *block = take(64);
    drop(block);
    char *others[64];
    for (int i = 0; i < 64; i++) others[i] = take(64);
    drop(block);
    char *second[64];
    for (int i = 0; i < 64; i++) second[i] = take(64);
    for (int i = 0; i < 64; i++) {
        for (int j = 0; j < 64; j++) {
            if (others[i] == second[j]) granted("corrupted: two owners of one block");
        }
    }
}

const struct mistake freed_mistakes[] = {
#define MISTAKE(name) {#name, name}
    MISTAKE(twice_0), MISTAKE(twice_16), MISTAKE(twice_64), MISTAKE(twice_1000), MISTAKE(twice_10000),
    MISTAKE(twice_medium), MISTAKE(twice_large), MISTAKE(twice_huge), MISTAKE(twice_zeroed),
    MISTAKE(twice_aligned), MISTAKE(twice_aligned_large), MISTAKE(twice_with_another_between),
    MISTAKE(twice_with_others_between), MISTAKE(twice_after_thousands), MISTAKE(twice_after_trim),
    MISTAKE(twice_overwritten), MISTAKE(twice_by_another_thread), MISTAKE(twice_in_another_thread),
    MISTAKE(twice_medium_by_another_thread), MISTAKE(twice_after_its_thread_died),
    MISTAKE(twice_after_both_in_a_thread_that_died), MISTAKE(twice_by_realloc),
    MISTAKE(twice_by_realloc_large), MISTAKE(twice_by_realloc_to_nothing),
    MISTAKE(twice_after_realloc_moved), MISTAKE(size_of_freed), MISTAKE(twice_by_delete),
    MISTAKE(delete_after_free), MISTAKE(twice_after_it_was_handed_out_again),
    {NULL, NULL},
};
