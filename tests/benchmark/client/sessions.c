/* Sessions: N slots, in each of which a session is opened, echoes once and is closed, again and
 * again.
 *
 * usage: sessions PORT PATH SLOTS SECONDS SIZE
 *
 * A session is over when the server, which is to be the first (RFC 6455 section 7.1.1), has closed
 * the connection. Of those whose Close it has not answered the share is told. SIZE is below 126
 * bytes.
 */
#include "common.h"

/* What a slot waits for. */
enum state { UPGRADE, ECHO, CLOSE, END };

struct slot {
    int fd;
    enum state state;
    uint64_t started;
    char buffer[4096]; /* what came in in this state */
    size_t size;
};

static int poller, port;
static char request[512];
static size_t request_size, message_size;
static struct frame message;
static struct measurement measurement;

static void begin(struct slot *slot) {
    slot->started = now_ns();
    slot->state = UPGRADE;
    slot->size = 0;
    slot->fd = connect_to(port);
    watch(poller, EPOLL_CTL_ADD, slot->fd, EPOLLIN, slot);
    send_all(slot->fd, request, request_size);
}

static void begin_another(struct slot *slot) {
    close(slot->fd);
    count_one(&measurement, slot->started);
    begin(slot);
}

/* Handle what has come in: what each state waits for, and nothing behind it. */
static void advance(struct slot *slot) {
    static const uint8_t close_frame[] = {0x80 | OPCODE_CLOSE, 0x80 | 2, 0, 0, 0, 0, 0x03, 0xe8};
    const uint8_t *bytes = (const uint8_t *)slot->buffer;
    switch (slot->state) {
    case UPGRADE:
        slot->buffer[slot->size] = '\0';
        if (slot->size < 4 || memcmp(slot->buffer + slot->size - 4, "\r\n\r\n", 4) != 0)
            return;
        check_upgrade(slot->buffer);
        send_all(slot->fd, message.bytes, message.size);
        slot->state = ECHO;
        break;
    case ECHO:
        if (slot->size < 2 + message_size)
            return;
        if (bytes[0] != (0x80 | OPCODE_BINARY) || bytes[1] != message_size)
            fail("not an echo: a frame that begins with 0x%02x%02x", bytes[0], bytes[1]);
        for (size_t index = 0; index < message_size; index++)
            if (bytes[2 + index] != payload_byte(index))
                fail("an echo differs from what was sent");
        send_all(slot->fd, close_frame, sizeof close_frame);
        slot->state = CLOSE;
        break;
    case CLOSE:
        if (slot->size < 4)
            return;
        if (bytes[0] != (0x80 | OPCODE_CLOSE) || bytes[2] != 0x03 || bytes[3] != 0xe8)
            fail("not the answer to a Close: a frame that begins with 0x%02x", bytes[0]);
        slot->state = END;
        break;
    case END:
        fail("the server sent something after its Close");
    }
    slot->size = 0;
}

int main(int argc, char **argv) {
    if (argc != 6)
        fail("usage: sessions PORT PATH SLOTS SECONDS SIZE");
    int slots = atoi(argv[3]);
    port = atoi(argv[1]);
    message_size = (size_t)atol(argv[5]);
    if (message_size < 1 || message_size > 125)
        fail("SIZE is 1 to 125");
    request_size = upgrade_request(request, sizeof request, port, argv[2]);
    message = make_message(message_size);
    poller = epoll_create1(0);
    measurement = plan_measurement(atof(argv[4]));

    struct slot *all = allocate((size_t)slots, sizeof *all);
    for (int index = 0; index < slots; index++)
        begin(&all[index]);

    struct epoll_event events[EVENTS];
    while (measuring(&measurement)) {
        int found = wait_for_events(poller, events);
        for (int index = 0; index < found; index++) {
            struct slot *slot = events[index].data.ptr;
            ssize_t size = recv(slot->fd, slot->buffer + slot->size,
                                sizeof slot->buffer - 1 - slot->size, MSG_DONTWAIT);
            if (size > 0) {
                slot->size += (size_t)size;
                advance(slot);
            } else if (slot->state == CLOSE || slot->state == END) {
                measurement.unanswered += measurement.running && slot->state == CLOSE;
                begin_another(slot);
            } else {
                fail("the server ended a session early: %s",
                     size == 0 ? "end of stream" : strerror(errno));
            }
        }
    }
    print_measurement(&measurement);
    return 0;
}
