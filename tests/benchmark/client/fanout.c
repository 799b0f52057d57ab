/* Broadcast: N members on PATH. One of them publishes a message of S bytes; when all N have
 * received it, it publishes the next, for T seconds. STALLED more members never read.
 *
 * usage: fanout PORT PATH MEMBERS SECONDS SIZE STALLED
 *
 * The rate is that of deliveries, the latency that of a whole fan-out. SIZE is below 126 bytes.
 */
#include "common.h"

int main(int argc, char **argv) {
    if (argc != 7)
        fail("usage: fanout PORT PATH MEMBERS SECONDS SIZE STALLED");
    int port = atoi(argv[1]), members = atoi(argv[3]), stalled = atoi(argv[6]);
    double seconds = atof(argv[4]);
    size_t size = (size_t)atol(argv[5]);
    if (size < 1 || size > 125)
        fail("SIZE is 1 to 125");
    struct frame message = make_message(size);
    for (int index = 0; index < stalled; index++)
        open_session(port, argv[2]);
    int *sockets = allocate((size_t)members, sizeof *sockets);
    int poller = epoll_create1(0);
    for (int index = 0; index < members; index++) {
        sockets[index] = open_session(port, argv[2]);
        fcntl(sockets[index], F_SETFL, O_NONBLOCK);
        watch(poller, EPOLL_CTL_ADD, sockets[index], EPOLLIN, &sockets[index]);
    }
    /* The last one may not be in the room yet: a round that misses somebody would never end. */
    usleep(500000);

    static char received[RECEIVE_SIZE];
    struct epoll_event events[EVENTS];
    struct measurement measurement = plan_measurement(seconds);
    const size_t round_size = (size_t)members * (size + 2);
    while (measuring(&measurement)) {
        uint64_t started = now_ns();
        send_all(sockets[0], message.bytes, message.size);
        for (size_t got = 0; got < round_size;) {
            int found = wait_for_events(poller, events);
            for (int index = 0; index < found; index++) {
                ssize_t part = recv(*(int *)events[index].data.ptr, received, sizeof received, 0);
                if (part > 0)
                    got += (size_t)part;
                else if (part == 0 || errno != EAGAIN)
                    fail("the server has ended a member's session");
            }
        }
        count_one(&measurement, started);
    }
    print_measurement(&measurement);
    return 0;
}
