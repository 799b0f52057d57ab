/* The ceiling: a server that does nothing but what the clients ask for, in C.
 *
 * It upgrades what asks for it and answers everything else with a 200, echoes frames unmasked as
 * their bytes come in, and answers a Close. What a client measures against it shows what the
 * client, the kernel and the machine can do: a figure near that one says nothing about a server.
 *
 * usage: ceiling    prints "Listening at: http://127.0.0.1:PORT" and runs until it is killed
 */
#include "common.h"

struct connection {
    int fd;
    bool upgraded;
    char request[1024];
    size_t request_size;
    /* The frame that is coming in: its head (with the key), then its payload. */
    uint8_t head[14];
    size_t head_size;
    bool in_payload;
    uint64_t left;
    unsigned phase; /* which byte of the key is next */
    bool closing;   /* the frame is a Close: the connection ends behind its answer */
};

static uint8_t output[RECEIVE_SIZE + 16];
static size_t output_size;

static void put(const void *bytes, size_t size) {
    memcpy(output + output_size, bytes, size);
    output_size += size;
}

static void flush(struct connection *connection) {
    /* Blocking: the clients read whatever else they do. */
    for (size_t gone = 0; gone < output_size;) {
        ssize_t sent = send(connection->fd, output + gone, output_size - gone, MSG_NOSIGNAL);
        if (sent < 0)
            break; /* the client is gone; recv() will tell */
        gone += (size_t)sent;
    }
    output_size = 0;
}

static void answer_request(struct connection *connection) {
    static const char upgrade[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                  "Connection: Upgrade\r\n"
                                  "Sec-WebSocket-Accept: " WEBSOCKET_ACCEPT "\r\n\r\n";
    static const char plain[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
    connection->upgraded = strstr(connection->request, "Upgrade: websocket") != NULL;
    connection->request_size = 0;
    if (connection->upgraded)
        put(upgrade, sizeof upgrade - 1);
    else
        put(plain, sizeof plain - 1);
}

/* Take the next byte of a frame's head; with the last one its answer's head goes out. */
static void take_head(struct connection *connection, uint8_t byte) {
    uint8_t *head = connection->head;
    head[connection->head_size++] = byte;
    if (connection->head_size < 2)
        return;
    uint64_t length = head[1] & 0x7f;
    size_t length_bytes = length < 126 ? 0 : length == 126 ? 2 : 8;
    if (connection->head_size < 2 + length_bytes + 4)
        return;
    if (length_bytes > 0)
        length = 0;
    for (size_t index = 0; index < length_bytes; index++)
        length = length << 8 | head[2 + index];
    head[1] &= 0x7f; /* the answer is not masked */
    put(head, 2 + length_bytes);
    connection->closing = head[0] == (0x80 | OPCODE_CLOSE);
    memmove(head, head + 2 + length_bytes, 4); /* keep the key */
    connection->in_payload = true;
    connection->left = length;
    connection->phase = 0;
    connection->head_size = 0;
}

/* XOR eight bytes at a time, as masking in C is done. */
static void echo_payload(struct connection *connection, const uint8_t *bytes, size_t size) {
    uint8_t key[8];
    for (unsigned index = 0; index < 8; index++)
        key[index] = connection->head[(connection->phase + index) & 3];
    uint64_t wide_key, part;
    memcpy(&wide_key, key, 8);
    uint8_t *to = output + output_size;
    size_t index = 0;
    for (; index + 8 <= size; index += 8) {
        memcpy(&part, bytes + index, 8);
        part ^= wide_key;
        memcpy(to + index, &part, 8);
    }
    for (; index < size; index++)
        to[index] = bytes[index] ^ key[index & 7];
    output_size += size;
    connection->phase = (connection->phase + (unsigned)(size & 3)) & 3;
    connection->left -= size;
}

static void take(struct connection *connection, const uint8_t *bytes, size_t size) {
    while (size > 0) {
        if (!connection->upgraded) {
            if (connection->request_size >= sizeof connection->request - 1)
                fail("a request is too large");
            connection->request[connection->request_size++] = (char)*bytes++;
            connection->request[connection->request_size] = '\0';
            size--;
            if (connection->request_size >= 4 &&
                memcmp(connection->request + connection->request_size - 4, "\r\n\r\n", 4) == 0)
                answer_request(connection);
        } else if (!connection->in_payload) {
            take_head(connection, *bytes++);
            size--;
        } else {
            size_t part = size < connection->left ? size : connection->left;
            echo_payload(connection, bytes, part);
            bytes += part;
            size -= part;
        }
        if (connection->in_payload && connection->left == 0)
            connection->in_payload = false;
    }
    flush(connection);
}

int main(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t address_size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM, 0), poller = epoll_create1(0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 1024) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &address_size) != 0)
        fail("cannot listen: %s", strerror(errno));
    watch(poller, EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    printf("Listening at: http://127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);

    static uint8_t buffer[RECEIVE_SIZE];
    struct epoll_event events[EVENTS];
    for (;;) {
        int found = epoll_wait(poller, events, EVENTS, -1);
        for (int index = 0; index < found; index++) {
            struct connection *connection = events[index].data.ptr;
            if (connection == NULL) {
                int one = 1;
                connection = allocate(1, sizeof *connection);
                connection->fd = accept(listener, NULL, NULL);
                if (connection->fd < 0)
                    fail("cannot accept: %s", strerror(errno));
                setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                watch(poller, EPOLL_CTL_ADD, connection->fd, EPOLLIN, connection);
                continue;
            }
            ssize_t size = recv(connection->fd, buffer, sizeof buffer, MSG_DONTWAIT);
            if (size > 0)
                take(connection, buffer, (size_t)size);
            bool gone = size == 0 || (size < 0 && errno != EAGAIN);
            if (gone || (connection->closing && !connection->in_payload)) {
                close(connection->fd);
                free(connection);
            }
        }
    }
}
