/* An allocator whose memory is known to the page: each block is a mapping of its own, of as many OS
 * pages as its header of 16 bytes and its size need, and PAD pages more (written if PAD_TOUCHED), and
 * when the process starts METADATA_BYTES are mapped and written. Nothing is ever kept: free unmaps.
 * With RETAIN, free keeps the mapping for ever instead. With SHARED mappings are shared anonymous
 * memory, with MEMFD each is a memfd of its own, with IN_FILES a removed file in the folder
 * KNOWN_FOLDER. With SPIKE_BYTES each SPIKE_EVERYth allocation maps so much more, writes to all of
 * it, and unmaps it before it returns. realloc always copies. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

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

#if defined(MEMFD) || defined(IN_FILES)
static int new_file(void) {
#ifdef MEMFD
    return memfd_create("known", 0);
#else
    static unsigned long number; /* each thread may take the same one: then open fails and tries again */
    char path[4096];
    const char *folder = getenv("KNOWN_FOLDER");
    size_t length = folder ? strlen(folder) : 0;
    if (!length || length > sizeof path - 32) return -1;
    memcpy(path, folder, length);
    for (;;) {
        unsigned long n = __atomic_fetch_add(&number, 1, __ATOMIC_RELAXED) + ((unsigned long)getpid() << 32);
        size_t at = length;
        path[at++] = '/';
        for (; n; n >>= 4) path[at++] = "0123456789abcdef"[n & 15];
        path[at] = 0;
        int file = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
        if (file >= 0) unlink(path);
        if (file >= 0 || errno != EEXIST) return file;
    }
#endif
}
#endif

static char *map(size_t bytes) {
#if defined(MEMFD) || defined(IN_FILES)
    int file = new_file();
    if (file < 0) return 0;
    void *memory = MAP_FAILED;
    if (!ftruncate(file, (off_t)bytes))
        memory = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
#else
#ifdef SHARED
    int flags = MAP_SHARED | MAP_ANONYMOUS;
#else
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
#endif
    void *memory = mmap(0, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
#endif
    return memory == MAP_FAILED ? 0 : memory;
}

#ifdef SPIKE_BYTES
static void spike(void) {
    static unsigned long count;
    if (__atomic_add_fetch(&count, 1, __ATOMIC_RELAXED) % SPIKE_EVERY) return;
    char *memory = map(SPIKE_BYTES);
    if (!memory) return;
    memset(memory, 1, SPIKE_BYTES);
    munmap(memory, SPIKE_BYTES);
}
#endif

__attribute__((constructor)) static void start(void) {
    char *metadata = map(METADATA_BYTES);
    if (metadata) memset(metadata, 1, METADATA_BYTES);
}

static void *take(size_t alignment, size_t size) {
    size_t offset = alignment > HEADER ? alignment : HEADER;
#ifdef SPIKE_BYTES
    spike();
#endif
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
