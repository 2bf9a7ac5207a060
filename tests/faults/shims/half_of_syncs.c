/* Half of the syncs fail, and then nothing was synced. Loaded by LD_PRELOAD. */
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

__attribute__((constructor)) static void seed(void) { srandom((unsigned)getpid()); }

static int fails(void) { return random() % 2; }

int fsync(int fd) {
    if (fails()) { errno = EIO; return -1; }
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    if (fails()) { errno = EIO; return -1; }
    return (int)syscall(SYS_fdatasync, fd);
}
