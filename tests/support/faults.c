/* Faults of the system, for tests: loaded before the C library by LD_PRELOAD.
 *
 * FAULT_EIO names a file: while it is there, fdatasync fails with EIO.
 * FAULT_STALL names a file: while it is there, fdatasync does not return.
 * FAULT_WRITE names a file: while it is there, no file takes a byte, as if it were read-only.
 * FAULT_CHECKPOINT names a file: while it is there, there is no room for a checkpoint.
 * FAULT_HANG names a file: while it is there, opening a file whose name ends in .json does not return.
 * FAULT_CLOCK names a file: the seconds in it are added to the real-time clock. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int fdatasync(int file) {
    const char *when = getenv("FAULT_EIO");
    if (when && access(when, F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    const char *stall = getenv("FAULT_STALL");
    while (stall && access(stall, F_OK) == 0) usleep(5000);
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return real(file);
}

int open64(const char *path, int flags, ...) {
    mode_t mode = 0;
    if (flags & (O_CREAT | O_TMPFILE)) {
        va_list more;
        va_start(more, flags);
        mode = va_arg(more, mode_t);
        va_end(more);
    }
    const char *hang = getenv("FAULT_HANG");
    size_t length = strlen(path);
    if (hang && length > 5 && strcmp(path + length - 5, ".json") == 0) {
        while (access(hang, F_OK) == 0) usleep(5000);
    }
    static int (*real)(const char *, int, ...);
    if (!real) real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open64");
    return real(path, flags, mode);
}

ssize_t write(int file, const void *bytes, size_t count) {
    const char *when = getenv("FAULT_WRITE");
    struct stat about;
    if (when && access(when, F_OK) == 0 && fstat(file, &about) == 0 && S_ISREG(about.st_mode)) {
        errno = EROFS;
        return -1;
    }
    const char *checkpoint = getenv("FAULT_CHECKPOINT");
    if (checkpoint && access(checkpoint, F_OK) == 0 && count > 12 && !memcmp(bytes, "cms-gateway/", 12)) {
        errno = ENOSPC;
        return -1;
    }
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    return real(file, bytes, count);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    const char *by = getenv("FAULT_CLOCK");
    if (result == 0 && by && clock == CLOCK_REALTIME) {
        FILE *file = fopen(by, "r");
        long seconds = 0;
        if (file) {
            if (fscanf(file, "%ld", &seconds) == 1) time->tv_sec += seconds;
            fclose(file);
        }
    }
    return result;
}
