/*
 * fake_board SOCKET MODE [CONFIG.dtb] [--live]: serves as the console of a board, one caller after
 * the other, until it is ended.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "tests/host_tools/fake.h"

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int mode = 0;

    if (argc < 3 || strlen(argv[1]) >= sizeof(address.sun_path)) {
        return 2;
    }
    while (fake_mode_name((enum fake_mode)mode) != NULL &&
           strcmp(fake_mode_name((enum fake_mode)mode), argv[2]) != 0) {
        mode++;
    }
    strcpy(address.sun_path, argv[1]);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (mode == FAKE_MODE_COUNT ||
        bind(listener, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(listener, 4) != 0) {
        fprintf(stderr, "fake_board: %s %s\n", argv[1], argv[2]);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd >= 0) {
            fake_serve(fd, (enum fake_mode)mode);
            close(fd);
        }
    }
}
