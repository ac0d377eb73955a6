/* Writes into memory that is not the program's any more, or never was: over the end of a block, before
 * its start, into a freed one. What an allocator keeps in such places is the target. */
#include "misuse.h"

#include <stdint.h>
#include <stdlib.h>

/* Where an attacker wants the next block to be. */
static long long target[64];

/* The address of the target, over and over. */
static void aim(char *place, size_t bytes) {
    forbid(target, sizeof target);
    begin_write(place, bytes);
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        *(volatile uintptr_t *)(place + i) = (uintptr_t)target;
    }
    end_write();
}
static void scribble(char *place, size_t bytes) {
    begin_write(place, bytes);
    for (size_t i = 0; i < bytes; i++) *(volatile char *)(place + i) = 0x41;
    end_write();
}
static void take_many(size_t size) { take_some(size, 300); }

static void freed_garbage(void) {
    char *block = take(64);
    drop(block);
    scribble(hide(block), 64);
    take_many(64);
}
static void freed_first_word(void) {
    char *block = take(64);
    drop(block);
    aim(hide(block), 8);
    take_many(64);
}
static void freed_whole_of_many(void) {
    char *blocks[100];
    for (int i = 0; i < 100; i++) blocks[i] = take(128);
    for (int i = 0; i < 100; i++) drop(blocks[i]);
    for (int i = 0; i < 100; i++) aim(hide(blocks[i]), 128);
    take_many(128);
}
static void freed_by_another_thread(void) {
    char *block = take(64);
    drop_in_thread(block);
    aim(hide(block), 64);
    take_many(64);
}
static void freed_medium(void) {
    char *block = take(40000), *behind = take(40000);
    drop(block);
    aim(hide(block), 4096);
    take_some(40000, 20);
    drop(behind);
}
static void freed_large(void) {
    char *block = take(64 << 20);
    drop(block);
    scribble(hide(block), 64);
    take_some(64 << 20, 1);
}

/* Three neighbours, if the allocator makes neighbours of them. */
static void three(char *blocks[3], size_t size) {
    for (int i = 0; i < 3; i++) blocks[i] = take(size);
}
static void over_the_end_by_one(void) {
    char *blocks[3];
    three(blocks, 72);
    scribble(hide(blocks[0] + 72), 1);
    for (int i = 0; i < 3; i++) drop(blocks[i]);
    take_many(72);
}
static void over_the_end_into_a_freed_block(void) {
    char *blocks[3];
    three(blocks, 64);
    drop(blocks[1]);
    aim(hide(blocks[0] + 64), 80);
    take_many(64);
}
static void over_the_end_into_an_allocated_block(void) {
    char *blocks[3];
    three(blocks, 88);
    scribble(hide(blocks[0] + 88), 16);
    for (int i = 0; i < 3; i++) drop(blocks[i]);
    take_many(88);
}
/* A length that makes the next block seem longer than it is: it is freed, and taken for the longer one. */
static void over_the_end_with_a_length(void) {
    char *blocks[4];
    for (int i = 0; i < 4; i++) blocks[i] = take(136);
    begin_write(blocks[0] + 136, 8);
    *(volatile uint64_t *)hide(blocks[0] + 136) = 0x121;
    end_write();
    drop(blocks[1]);
    char *longer = take(272);
    if (longer < blocks[2] + 136 && blocks[2] < longer + 272) {
        granted("corrupted: two owners of one block");
    }
}
static void before_the_start(void) {
    char *blocks[3];
    three(blocks, 64);
    scribble(hide(blocks[1] - 16), 16);
    for (int i = 0; i < 3; i++) drop(blocks[i]);
    take_many(64);
}
static void over_the_end_of_a_large_block(void) {
    char *block = take(1 << 20);
    scribble(hide(block + (1 << 20)), 32);
    drop(block);
    take_some(1 << 20, 1);
}
static void before_the_start_of_a_large_block(void) {
    char *block = take(8 << 20);
    scribble(hide(block - 16), 16);
    drop(block);
    take_some(8 << 20, 1);
}

const struct mistake write_mistakes[] = {
#define MISTAKE(name) {"write_" #name, name}
    MISTAKE(freed_garbage), MISTAKE(freed_first_word), MISTAKE(freed_whole_of_many),
    MISTAKE(freed_by_another_thread), MISTAKE(freed_medium), MISTAKE(freed_large),
    MISTAKE(over_the_end_by_one), MISTAKE(over_the_end_into_a_freed_block),
    MISTAKE(over_the_end_into_an_allocated_block), MISTAKE(over_the_end_with_a_length),
    MISTAKE(before_the_start), MISTAKE(over_the_end_of_a_large_block),
    MISTAKE(before_the_start_of_a_large_block),
    {NULL, NULL},
};
