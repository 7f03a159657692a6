/* Records how much of each file a finished fsync has made safe, as a power cut would find it.
 *
 * Loaded before the C library (LD_PRELOAD). After every fsync and fdatasync that
 * succeeded it appends one line, "<length> <inode>", to the file that POWERCUT_LOG names: a file may
 * get another name later. The length is the one before the call: what was written meanwhile may not
 * be safe.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int inspect(int file, struct stat *found) {
    return fstat(file, found) == 0 && S_ISREG(found->st_mode);
}

static void record(const struct stat *before) {
    const char *log = getenv("POWERCUT_LOG");
    char line[64];
    if (log == NULL) {
        return;
    }
    int bytes = snprintf(line, sizeof line, "%lld %llu\n", (long long)before->st_size,
                         (unsigned long long)before->st_ino);
    int to = open(log, O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (to < 0 || write(to, line, bytes) != bytes) {
        abort(); /* a recorder that forgets proves nothing */
    }
    close(to);
}

int fsync(int file) {
    static int (*real)(int);
    if (real == NULL) {
        real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    }
    struct stat before;
    int is_file = inspect(file, &before);
    int outcome = real(file);
    if (outcome == 0 && is_file) {
        record(&before);
    }
    return outcome;
}

int fdatasync(int file) {
    static int (*real)(int);
    if (real == NULL) {
        real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    }
    struct stat before;
    int is_file = inspect(file, &before);
    int outcome = real(file);
    if (outcome == 0 && is_file) {
        record(&before);
    }
    return outcome;
}
