/* Echo: N connections, each of which keeps D messages of S bytes in flight.
 *
 * usage: echo PORT PATH CONNECTIONS SECONDS SIZE DEPTH
 *
 * The rate is that of messages that came back. Up to the beginning of the measurement every byte
 * of every echo is compared with what was sent; after that its opcode and its length are.
 */
#include "common.h"

enum { DEPTH_LIMIT = 64 };

struct connection {
    int fd;
    /* Going out: all messages are the same, so what is left to send is a number of them. */
    unsigned to_send;
    size_t offset; /* bytes of the first of them that are gone */
    bool blocked;  /* the kernel's buffer is full: waiting for EPOLLOUT */
    /* Coming in: the head of a frame, then its payload. */
    uint8_t head[10];
    size_t head_size;
    bool in_payload;
    uint64_t left; /* bytes of the payload that are still to come */
    /* When each message in flight was handed over to be sent: a ring. */
    uint64_t sent_at[DEPTH_LIMIT];
    unsigned sent, received;
};

static int poller;
static size_t message_size;
static struct frame message;
static struct measurement measurement;

static void flush(struct connection *connection) {
    while (connection->to_send > 0) {
        ssize_t sent = send_some(connection->fd, message.bytes + connection->offset,
                                 message.size - connection->offset);
        if (sent < 0 && errno == EAGAIN) {
            if (!connection->blocked)
                watch(poller, EPOLL_CTL_MOD, connection->fd, EPOLLIN | EPOLLOUT, connection);
            connection->blocked = true;
            return;
        }
        if (sent < 0)
            fail("cannot send: %s", strerror(errno));
        connection->offset += (size_t)sent;
        if (connection->offset == message.size) {
            connection->offset = 0;
            connection->to_send--;
        }
    }
    if (connection->blocked)
        watch(poller, EPOLL_CTL_MOD, connection->fd, EPOLLIN, connection);
    connection->blocked = false;
}

static void send_another(struct connection *connection) {
    connection->sent_at[connection->sent++ % DEPTH_LIMIT] = now_ns();
    connection->to_send++;
}

/* Take the next byte of a frame's head; with the last one the payload begins. */
static void take_head(struct connection *connection, uint8_t byte) {
    connection->head[connection->head_size++] = byte;
    if (connection->head_size < 2)
        return;
    if (connection->head[0] != (0x80 | OPCODE_BINARY))
        fail("expected a whole binary message, got a frame that begins with 0x%02x",
             connection->head[0]);
    uint64_t length = connection->head[1];
    size_t length_bytes = length < 126 ? 0 : length == 126 ? 2 : 8;
    if (connection->head_size < 2 + length_bytes)
        return;
    if (length_bytes > 0)
        length = 0;
    for (size_t index = 0; index < length_bytes; index++)
        length = length << 8 | connection->head[2 + index];
    if (length != message_size)
        fail("an echo of %llu bytes instead of %zu", (unsigned long long)length, message_size);
    connection->in_payload = true;
    connection->left = length;
    connection->head_size = 0;
}

static void take_payload(struct connection *connection, const uint8_t *bytes, size_t size) {
    if (!measurement.running)
        for (size_t index = 0; index < size; index++)
            if (bytes[index] != payload_byte(message_size - connection->left + index))
                fail("an echo differs from what was sent");
    connection->left -= size;
}

static void take(struct connection *connection, const uint8_t *bytes, size_t size) {
    while (size > 0) {
        if (!connection->in_payload) {
            take_head(connection, *bytes++);
            size--;
        } else {
            size_t part = size < connection->left ? size : connection->left;
            take_payload(connection, bytes, part);
            bytes += part;
            size -= part;
        }
        if (connection->in_payload && connection->left == 0) {
            connection->in_payload = false;
            count_one(&measurement, connection->sent_at[connection->received++ % DEPTH_LIMIT]);
            send_another(connection);
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 7)
        fail("usage: echo PORT PATH CONNECTIONS SECONDS SIZE DEPTH");
    int port = atoi(argv[1]), connections = atoi(argv[3]), depth = atoi(argv[6]);
    message_size = (size_t)atol(argv[5]);
    if (depth < 1 || depth > DEPTH_LIMIT || message_size < 1)
        fail("DEPTH is 1 to %d, SIZE 1 or more", DEPTH_LIMIT);
    message = make_message(message_size);
    poller = epoll_create1(0);

    struct connection *all = allocate((size_t)connections, sizeof *all);
    for (int index = 0; index < connections; index++) {
        all[index].fd = open_session(port, argv[2]);
        fcntl(all[index].fd, F_SETFL, O_NONBLOCK);
        watch(poller, EPOLL_CTL_ADD, all[index].fd, EPOLLIN, &all[index]);
    }
    measurement = plan_measurement(atof(argv[4]));
    for (int index = 0; index < connections; index++) {
        for (int count = 0; count < depth; count++)
            send_another(&all[index]);
        flush(&all[index]);
    }

    uint8_t *buffer = allocate(RECEIVE_SIZE, 1);
    struct epoll_event events[EVENTS];
    while (measuring(&measurement)) {
        int found = wait_for_events(poller, events);
        for (int index = 0; index < found; index++) {
            struct connection *connection = events[index].data.ptr;
            ssize_t size = receive_some(connection->fd, buffer, RECEIVE_SIZE);
            if (size == 0)
                fail("the server closed a connection");
            if (size < 0 && errno != EAGAIN)
                fail("cannot receive: %s", strerror(errno));
            if (size > 0)
                take(connection, buffer, (size_t)size);
            flush(connection);
        }
    }
    print_measurement(&measurement);
    return 0;
}
