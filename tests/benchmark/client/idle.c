/* Idle: N sessions, each of which has echoed one message of S bytes and then does nothing.
 *
 * usage: idle PORT PATH SESSIONS SIZE
 *
 * Prints "ready" when all of them are there, and ends when its standard input does. SIZE is below
 * 126 bytes.
 */
#include "common.h"

int main(int argc, char **argv) {
    if (argc != 5)
        fail("usage: idle PORT PATH SESSIONS SIZE");
    int port = atoi(argv[1]), sessions = atoi(argv[3]);
    size_t size = (size_t)atol(argv[4]);
    if (size < 1 || size > 125)
        fail("SIZE is 1 to 125");
    struct frame message = make_message(size);
    uint64_t started = now_ns();
    for (int index = 0; index < sessions; index++) {
        uint8_t echo[127];
        int fd = open_session(port, argv[2]);
        send_all(fd, message.bytes, message.size);
        for (size_t got = 0; got < size + 2;) {
            ssize_t part = receive_some(fd, echo + got, size + 2 - got);
            if (part <= 0)
                fail("session %d of %d did not echo", index + 1, sessions);
            got += (size_t)part;
        }
    }
    puts("ready");
    fflush(stdout);
    while (getchar() != EOF)
        ;
    printf("{\"sessions\": %d, \"wall_s\": %.3f}\n", sessions, (double)(now_ns() - started) / 1e9);
    return 0;
}
