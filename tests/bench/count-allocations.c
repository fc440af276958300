/* Counts what a program asks of malloc: loaded before glibc's own (LD_PRELOAD), it adds to a number in the file that
 * COUNT_ALLOCATIONS names, 8 bytes in the machine's order, and lets glibc do the rest. What SQLite asks for counts
 * like what Rust does. `testbed bench gate` builds and uses it. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

/* What comes before the file is open is lost: the start of the program is not what is measured. */
static unsigned long lost;
static unsigned long *counted = &lost;

__attribute__((constructor)) static void open_file(void) {
    const char *path = getenv("COUNT_ALLOCATIONS");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *place = mmap(NULL, sizeof lost, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (place != MAP_FAILED)
        counted = place;
}

static void count(void) {
    __atomic_fetch_add(counted, 1, __ATOMIC_RELAXED);
}

void *malloc(size_t bytes) {
    count();
    return __libc_malloc(bytes);
}

void *calloc(size_t number, size_t bytes) {
    count();
    return __libc_calloc(number, bytes);
}

void *realloc(void *old, size_t bytes) {
    count();
    return __libc_realloc(old, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes) {
    count();
    return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **place, size_t alignment, size_t bytes) {
    count();
    *place = __libc_memalign(alignment, bytes);
    return *place ? 0 : ENOMEM;
}
