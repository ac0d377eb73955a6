/* Makes system calls of an allocator fail. Preloaded before the allocator's shared object, whose calls of
 * mmap, munmap, mremap, madvise and mprotect then come here; those of everybody else pass.
 *
 *   FAULTS_OBJECT   part of the name of the object whose calls are meant
 *
 * The program under test says which calls fail. */
#define _GNU_SOURCE
#include <errno.h>
#include <link.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MMAP, MUNMAP, MREMAP, MADVISE, MPROTECT, KINDS };

static uintptr_t object_start, object_end;
/* Calls seen since the last `faults_arm`; those numbered first <= n < end fail. */
static atomic_long calls, first, end;
static atomic_long failed[KINDS];

void faults_arm(long from, long count) {
    atomic_store(&end, 0);
    atomic_store(&calls, 0);
    atomic_store(&first, from);
    atomic_store(&end, from + count);
}
long faults_calls(void) { return atomic_load(&calls); }
long faults_failed(int kind) { return atomic_load(&failed[kind]); }

static int look_at(struct dl_phdr_info *info, size_t size, void *name) {
    (void)size;
    if (!strstr(info->dlpi_name, name)) return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_X)) continue;
        object_start = info->dlpi_addr + part->p_vaddr;
        object_end = object_start + part->p_memsz;
    }
    return 1;
}

__attribute__((constructor)) static void find_object(void) {
    char *name = getenv("FAULTS_OBJECT");
    if (name) dl_iterate_phdr(look_at, name);
}

static int is_to_fail(int kind, void *caller) {
    uintptr_t address = (uintptr_t)caller;
    if (address < object_start || address >= object_end) return 0;
    long number = atomic_fetch_add(&calls, 1);
    if (number < atomic_load(&first) || number >= atomic_load(&end)) return 0;
    atomic_fetch_add(&failed[kind], 1);
    errno = ENOMEM;
    return 1;
}
#define FAIL(kind) is_to_fail(kind, __builtin_return_address(0))

void *mmap(void *address, size_t bytes, int protection, int flags, int file, off_t offset) {
    if (FAIL(MMAP)) return MAP_FAILED;
    return (void *)syscall(SYS_mmap, address, bytes, protection, flags, file, offset);
}
int munmap(void *address, size_t bytes) {
    if (FAIL(MUNMAP)) return -1;
    return (int)syscall(SYS_munmap, address, bytes);
}
void *mremap(void *address, size_t before, size_t after, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    void *to = flags & MREMAP_FIXED ? va_arg(rest, void *) : NULL;
    va_end(rest);
    if (FAIL(MREMAP)) return MAP_FAILED;
    return (void *)syscall(SYS_mremap, address, before, after, flags, to);
}
int madvise(void *address, size_t bytes, int advice) {
    if (FAIL(MADVISE)) return -1;
    return (int)syscall(SYS_madvise, address, bytes, advice);
}
int mprotect(void *address, size_t bytes, int protection) {
    if (FAIL(MPROTECT)) return -1;
    return (int)syscall(SYS_mprotect, address, bytes, protection);
}
