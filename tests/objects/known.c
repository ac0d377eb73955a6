/* An allocator whose memory is known to the page: each block is a mapping of its own, of as many OS
 * pages as its header of 16 bytes and its size need, and PAD pages more (written if PAD_TOUCHED), and
 * when the process starts METADATA_BYTES are mapped and written. Nothing is ever kept: free unmaps.
 * With RETAIN, free keeps the mapping for ever instead. */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#ifndef PAD
#define PAD 0
#endif
#ifndef METADATA_BYTES
#define METADATA_BYTES ((size_t)8 << 20)
#endif
#define PAGE ((size_t)4096)
#define HEADER ((size_t)16)

struct header {
    uint32_t pages;  /* of the mapping */
    uint32_t offset; /* from its start to the block */
    size_t size;
};

static char *map(size_t bytes) {
    void *memory = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? 0 : memory;
}

__attribute__((constructor)) static void start(void) {
    char *metadata = map(METADATA_BYTES);
    if (metadata) memset(metadata, 1, METADATA_BYTES);
}

static void *take(size_t alignment, size_t size) {
    size_t offset = alignment > HEADER ? alignment : HEADER;
    /* Mappings are aligned to a page; larger alignments are not served. */
    if (alignment > PAGE || size > (size_t)1 << 40) { errno = ENOMEM; return 0; }
    size_t pages = (offset + size + PAGE - 1) / PAGE + PAD;
    char *mapping = map(pages * PAGE);
    if (!mapping) { errno = ENOMEM; return 0; }
#ifdef PAD_TOUCHED
    for (size_t page = pages - PAD; page < pages; page++) mapping[page * PAGE] = 1;
#endif
    struct header *header = (struct header *)(mapping + offset - HEADER);
    header->pages = (uint32_t)pages;
    header->offset = (uint32_t)offset;
    header->size = size;
    return mapping + offset;
}

static struct header *header_of(void *block) { return (struct header *)((char *)block - HEADER); }

void *malloc(size_t size) { return take(16, size); }

void free(void *block) {
    if (!block) return;
#ifndef RETAIN
    struct header *header = header_of(block);
    munmap((char *)block - header->offset, header->pages * PAGE);
#endif
}

void *calloc(size_t n, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes)) { errno = ENOMEM; return 0; }
    return take(16, bytes);
}

void *realloc(void *old, size_t size) {
    void *block = take(16, size);
    if (old && block) {
        size_t kept = header_of(old)->size;
        memcpy(block, old, kept < size ? kept : size);
        free(old);
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
size_t malloc_usable_size(void *block) { return block ? header_of(block)->size : 0; }
