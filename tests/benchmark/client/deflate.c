/* Echo with compression (RFC 7692): N connections, each with one message of JSON in flight.
 *
 * usage: deflate PORT PATH CONNECTIONS SECONDS SIZE
 *
 * The messages are MESSAGES different ones, one after the other: together they are larger than any
 * window of the server's, so that it has to compress each of them anew. The client has compressed
 * them before it begins, each without the others, which it may. Up to the beginning of the
 * measurement every echo is decompressed and compared with what was sent; after that it is counted.
 */
#include "common.h"
#include <zlib.h>

enum {
    MESSAGES = 64,
    SIZE_LIMIT = 4096,
    WINDOW_BITS = 10, /* less than any server has asked for */
    OPCODE_TEXT = 1,
    RSV1 = 0x40,
};

struct connection {
    int fd;
    unsigned sent;
    uint64_t sent_at;
    z_stream inflating;
    uint8_t buffer[SIZE_LIMIT + 1024]; /* what has come of the echo */
    size_t size;
};

static char texts[MESSAGES][SIZE_LIMIT + 1];
static struct frame frames[MESSAGES];
static size_t message_size;
static struct measurement measurement;

static unsigned drawn(unsigned below) {
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state >> 33) % below;
}

/* An object with a list of orders, and a word that fills it up to the size. */
static void write_json(char *text, unsigned number) {
    static const char *const names[] = {"bolt", "washer", "spanner", "hinge", "bracket", "screw"};
    size_t size = (size_t)sprintf(text, "{\"sequence\": %u, \"orders\": [", number);
    for (bool first = true; size + 120 < message_size; first = false)
        size += (size_t)sprintf(text + size, "%s{\"id\": %u, \"item\": \"%s\", \"price\": %u.%02u}",
                                first ? "" : ", ", drawn(1000000), names[drawn(6)], drawn(100),
                                drawn(100));
    size += (size_t)sprintf(text + size, "], \"note\": \"");
    while (size < message_size - 2)
        text[size++] = (char)('a' + drawn(26));
    strcpy(text + size, "\"}");
}

static struct frame compressed(char *text) {
    static const uint8_t key[4] = {0x12, 0x34, 0x56, 0x78};
    uint8_t *bytes = allocate(SIZE_LIMIT * 2, 1);
    z_stream deflating = {.next_in = (Bytef *)text, .avail_in = (uInt)message_size};
    deflating.next_out = bytes + 8;
    deflating.avail_out = SIZE_LIMIT * 2 - 8;
    if (deflateInit2(&deflating, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -WINDOW_BITS, 8,
                     Z_DEFAULT_STRATEGY) != Z_OK ||
        deflate(&deflating, Z_SYNC_FLUSH) != Z_OK)
        fail("cannot compress");
    size_t size = deflating.total_out - 4; /* without 00 00 ff ff */
    deflateEnd(&deflating);
    if (size < 126)
        fail("SIZE is too small");
    bytes[0] = 0x80 | RSV1 | OPCODE_TEXT;
    bytes[1] = 0x80 | 126;
    bytes[2] = (uint8_t)(size >> 8);
    bytes[3] = (uint8_t)size;
    memcpy(bytes + 4, key, sizeof key);
    for (size_t index = 0; index < size; index++)
        bytes[8 + index] ^= key[index & 3];
    return (struct frame){bytes, 8 + size};
}

static void send_another(struct connection *connection) {
    const struct frame *frame = &frames[connection->sent++ % MESSAGES];
    connection->sent_at = now_ns();
    send_all(connection->fd, frame->bytes, frame->size);
}

static void compare(struct connection *connection, uint8_t *bytes, size_t size) {
    uint8_t plain[SIZE_LIMIT + 1], tail[4] = {0, 0, 0xff, 0xff};
    z_stream *inflating = &connection->inflating;
    inflating->next_out = plain;
    inflating->avail_out = sizeof plain;
    for (int part = 0; part < 2; part++) {
        inflating->next_in = part == 0 ? bytes : tail;
        inflating->avail_in = (uInt)(part == 0 ? size : sizeof tail);
        int result = inflate(inflating, Z_SYNC_FLUSH);
        if (result != Z_OK && result != Z_BUF_ERROR)
            fail("an echo is not compressed as RFC 7692 says");
    }
    const char *text = texts[(connection->sent - 1) % MESSAGES];
    if (sizeof plain - inflating->avail_out != message_size ||
        memcmp(plain, text, message_size) != 0)
        fail("an echo differs from what was sent");
}

static void advance(struct connection *connection) {
    uint8_t *bytes = connection->buffer;
    if (connection->size < 2)
        return;
    if (bytes[0] != (0x80 | RSV1 | OPCODE_TEXT))
        fail("expected a whole compressed text, got a frame that begins with 0x%02x", bytes[0]);
    size_t head = bytes[1] < 126 ? 2 : 4, size = bytes[1];
    if (bytes[1] > 126)
        fail("an echo that is too large");
    if (connection->size < head)
        return;
    if (head == 4)
        size = (size_t)bytes[2] << 8 | bytes[3];
    if (head + size > sizeof connection->buffer)
        fail("an echo that is too large");
    if (connection->size < head + size)
        return;
    if (connection->size > head + size)
        fail("more than an echo");
    if (!measurement.running)
        compare(connection, bytes + head, size);
    count_one(&measurement, connection->sent_at);
    connection->size = 0;
    send_another(connection);
}

int main(int argc, char **argv) {
    if (argc != 6)
        fail("usage: deflate PORT PATH CONNECTIONS SECONDS SIZE");
    int port = atoi(argv[1]), connections = atoi(argv[3]);
    message_size = (size_t)atol(argv[5]);
    if (message_size < 256 || message_size > SIZE_LIMIT)
        fail("SIZE is 256 to %d", SIZE_LIMIT);
    for (unsigned index = 0; index < MESSAGES; index++) {
        write_json(texts[index], index);
        frames[index] = compressed(texts[index]);
    }
    /* As browsers offer it. */
    more_headers = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    int poller = epoll_create1(0);
    struct connection *all = allocate((size_t)connections, sizeof *all);
    for (int index = 0; index < connections; index++) {
        char head[4096];
        all[index].fd = open_session_with(port, argv[2], head, sizeof head);
        if (strstr(head, "permessage-deflate") == NULL)
            fail("the server does not compress");
        if (inflateInit2(&all[index].inflating, -15) != Z_OK)
            fail("out of memory");
        watch(poller, EPOLL_CTL_ADD, all[index].fd, EPOLLIN, &all[index]);
    }
    measurement = plan_measurement(atof(argv[4]));
    for (int index = 0; index < connections; index++)
        send_another(&all[index]);

    struct epoll_event events[EVENTS];
    while (measuring(&measurement)) {
        int found = wait_for_events(poller, events);
        for (int index = 0; index < found; index++) {
            struct connection *connection = events[index].data.ptr;
            ssize_t size = recv(connection->fd, connection->buffer + connection->size,
                                sizeof connection->buffer - connection->size, 0);
            if (size <= 0)
                fail("the server ended a session: %s", size < 0 ? strerror(errno) : "end of stream");
            connection->size += (size_t)size;
            advance(connection);
        }
    }
    print_measurement(&measurement);
    return 0;
}
