/* A disk quota that is used up although the file system has room: while the file that SCARCE names begins with a byte that is not 0, no
 * regular file grows. It may change at any moment. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static volatile char *scarce;
static ssize_t (*next_write)(int, const void *, size_t);
static ssize_t (*next_pwrite)(int, const void *, size_t, off64_t);
static int (*next_ftruncate)(int, off64_t);

__attribute__((constructor)) static void find(void) {
    next_write = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    next_pwrite = (ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
    next_ftruncate = (int (*)(int, off64_t))dlsym(RTLD_NEXT, "ftruncate64");
    const char *name = getenv("SCARCE");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, 1, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (page != MAP_FAILED) scarce = page;
}

static int has_room(int file, off64_t end) {
    struct stat64 status;
    if (!scarce || !*scarce || fstat64(file, &status) != 0 || !S_ISREG(status.st_mode) || end <= status.st_size) return 1;
    errno = EDQUOT;
    return 0;
}

ssize_t write(int file, const void *bytes, size_t count) {
    off64_t at = scarce && *scarce ? lseek64(file, 0, SEEK_CUR) : -1;
    return at < 0 || has_room(file, at + (off64_t)count) ? next_write(file, bytes, count) : -1;
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at) {
    return has_room(file, at + (off64_t)count) ? next_pwrite(file, bytes, count, at) : -1;
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t at) {
    return pwrite64(file, bytes, count, at);
}

int ftruncate64(int file, off64_t length) {
    return has_room(file, length) ? next_ftruncate(file, length) : -1;
}

int ftruncate(int file, off_t length) {
    return ftruncate64(file, length);
}
