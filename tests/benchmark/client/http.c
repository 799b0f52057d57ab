/* HTTP: N connections that are kept alive, each with one GET request after the other.
 *
 * usage: http PORT PATH CONNECTIONS SECONDS
 *
 * Every response has to be a 200 with a Content-Length.
 */
#include "common.h"

struct connection {
    int fd;
    uint64_t sent_at;
    char buffer[4096]; /* the response, as far as it is there */
    size_t size;
};

static char request[512];
static size_t request_size;
static struct measurement measurement;

static void ask(struct connection *connection) {
    connection->size = 0;
    connection->sent_at = now_ns();
    send_all(connection->fd, request, request_size);
}

static bool is_complete(struct connection *connection) {
    connection->buffer[connection->size] = '\0';
    const char *end = strstr(connection->buffer, "\r\n\r\n");
    if (end == NULL)
        return false;
    const char *length = strcasestr(connection->buffer, "\r\nContent-Length:");
    if (strncmp(connection->buffer, "HTTP/1.1 200", 12) != 0 || length == NULL || length > end)
        fail("not a 200 with a length: %.60s", connection->buffer);
    size_t expected = (size_t)(end + 4 - connection->buffer) +
                      strtoul(length + strlen("\r\nContent-Length:"), NULL, 10);
    if (expected >= sizeof connection->buffer || connection->size > expected)
        fail("more of a response than there should be");
    return connection->size == expected;
}

int main(int argc, char **argv) {
    if (argc != 5)
        fail("usage: http PORT PATH CONNECTIONS SECONDS");
    int port = atoi(argv[1]), connections = atoi(argv[3]);
    request_size = (size_t)snprintf(request, sizeof request,
                                    "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", argv[2], port);
    int poller = epoll_create1(0);
    measurement = plan_measurement(atof(argv[4]));

    struct connection *all = allocate((size_t)connections, sizeof *all);
    for (int index = 0; index < connections; index++) {
        all[index].fd = connect_to(port);
        watch(poller, EPOLL_CTL_ADD, all[index].fd, EPOLLIN, &all[index]);
        ask(&all[index]);
    }

    struct epoll_event events[EVENTS];
    while (measuring(&measurement)) {
        int found = wait_for_events(poller, events);
        for (int index = 0; index < found; index++) {
            struct connection *connection = events[index].data.ptr;
            ssize_t size = recv(connection->fd, connection->buffer + connection->size,
                                sizeof connection->buffer - 1 - connection->size, MSG_DONTWAIT);
            if (size <= 0)
                fail("the server did not keep a connection alive: %s",
                     size == 0 ? "end of stream" : strerror(errno));
            connection->size += (size_t)size;
            if (is_complete(connection)) {
                count_one(&measurement, connection->sent_at);
                ask(connection);
            }
        }
    }
    print_measurement(&measurement);
    return 0;
}
