/*
 * `top`: live, the busiest first. On a terminal a screen with keys; elsewhere lines, again and
 * again.
 */
#include "command.h"

#include <curses.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "text.h"
#include "top.h"

static const enum mgmt_class views[] = {
    MGMT_CLASS_QUEUE, MGMT_CLASS_QP,      MGMT_CLASS_POLLER, MGMT_CLASS_VOLUME,
    MGMT_CLASS_PATH,  MGMT_CLASS_REACTOR, MGMT_CLASS_STAT,
};

struct screen {
    struct call *call;
    struct top top;
    uint32_t view;
    uint32_t scroll;
    uint32_t interval_ms;
};

/* Looks once. */
static enum fault look(struct screen *s)
{
    struct client *c = s->call->client;
    struct client_rows rows;

    enum fault fault = client_refresh(c);
    if (fault == FAULT_NONE) {
        fault = list_if_there(s->call, s->top.record->class, &rows);
        top_take(&s->top, &rows, c->hello.uptime_ns);
    }
    return fault;
}

static void head_line(const struct screen *s, char *out, size_t room)
{
    const struct mgmt_hello *h = &s->call->client->hello;
    char uptime[32];

    text_uptime(uptime, sizeof(uptime), h->uptime_ns);
    snprintf(out, room, "snicctl top - %s, firmware %s, up %s, %s: %u", h->board, h->firmware,
             uptime, s->top.record->name, s->top.now.count);
}

/* --- lines ----------------------------------------------------------------------------------- */

static enum fault run_lines(struct screen *s, uint64_t count)
{
    char head[256];

    for (uint64_t i = 0; count == 0 || i < count; i++) {
        enum fault fault = look(s);
        if (fault != FAULT_NONE) {
            return fault;
        }
        head_line(s, head, sizeof(head));
        fprintf(s->call->out, "%s%s\n", i > 0 ? "\n" : "", head);
        reply_hung(s->call);
        top_print(&s->top, s->call->out);
        fflush(s->call->out);
        if (i + 1 != count) {
            poll(NULL, 0, (int)s->interval_ms);
        }
    }
    return FAULT_NONE;
}

/* --- the screen ------------------------------------------------------------------------------ */

static void use_view(struct screen *s, uint32_t view)
{
    s->view = view;
    s->scroll = 0;
    top_use(&s->top, record_of(views[view]));
}

static void draw_body(const struct screen *s, int first_line)
{
    char *text = NULL;
    size_t len = 0;
    FILE *file = open_memstream(&text, &len);

    top_print(&s->top, file);
    fclose(file);
    char *rest = text;
    char *line = strsep(&rest, "\n");
    attron(A_REVERSE);
    mvprintw(first_line, 0, "%-*.*s", COLS, COLS, line == NULL ? "" : line);
    attroff(A_REVERSE);
    for (uint32_t i = 0; rest != NULL && first_line + 1 < LINES - 1; i++) {
        line = strsep(&rest, "\n");
        if (i >= s->scroll && line[0] != '\0') {
            mvaddnstr(++first_line, 0, line, COLS);
        }
    }
    free(text);
}

static void draw(const struct screen *s)
{
    char head[256];
    int line = 2;

    erase();
    head_line(s, head, sizeof(head));
    mvaddnstr(0, 0, head, COLS);
    if (s->call->client->is_hung) {
        attron(A_REVERSE | A_BOLD);
        mvaddnstr(1, 0, "CORE 0 HANGS: an interrupt handler answers", COLS);
        attroff(A_REVERSE | A_BOLD);
    }
    draw_body(s, line);
    mvhline(LINES - 1, 0, ' ', COLS);
    move(LINES - 1, 0);
    for (uint32_t i = 0; i < ARRAY_SIZE(views); i++) {
        if (i == s->view) {
            attron(A_BOLD | A_UNDERLINE);
        }
        printw("%u %s", i + 1, record_of(views[i])->name);
        attroff(A_BOLD | A_UNDERLINE);
        addstr("  ");
    }
    addstr("</> sort  up/down  q quit");
    refresh();
}

/* True: look again now; *is_end: somebody wants to leave. */
static bool take_key(struct screen *s, int key, bool *is_end)
{
    if (key == 'q' || key == 27 || key == 3) {
        *is_end = true;
    } else if (key == '<' || key == KEY_LEFT) {
        top_sort_next(&s->top, false);
    } else if (key == '>' || key == KEY_RIGHT) {
        top_sort_next(&s->top, true);
    } else if (key == KEY_DOWN && s->scroll + 1 < s->top.now.count) {
        s->scroll++;
    } else if (key == KEY_UP && s->scroll > 0) {
        s->scroll--;
    } else if (key >= '1' && key < '1' + (int)ARRAY_SIZE(views)) {
        use_view(s, (uint32_t)(key - '1'));
        return true;
    } else if (key == ' ' || key == '\n') {
        return true;
    }
    return false;
}

static enum fault run_screen(struct screen *s)
{
    enum fault fault = FAULT_NONE;
    bool is_end = false;

    if (newterm(NULL, stdout, stdin) == NULL) {
        return fault_say(FAULT_FAILED, "this terminal cannot show a screen: TERM=%s",
                         getenv("TERM") == NULL ? "" : getenv("TERM"));
    }
    cbreak();
    noecho();
    keypad(stdscr, true);
    curs_set(0);
    set_escdelay(50);
    fault_hold(true);
    while (!is_end && fault == FAULT_NONE) {
        uint64_t next_ms = transport_now_ms() + s->interval_ms;
        fault = look(s);
        bool is_again = false;
        while (fault == FAULT_NONE && !is_end && !is_again) {
            uint64_t now_ms = transport_now_ms();
            draw(s);
            if (now_ms >= next_ms) {
                break;
            }
            timeout((int)(next_ms - now_ms));
            is_again = take_key(s, getch(), &is_end);
        }
    }
    endwin();
    fault_hold(false);
    return fault;
}

enum fault cmd_top(struct call *call)
{
    struct screen s = {.call = call};
    const char *view = args_value(call, "--view");
    uint64_t count = args_number(call, "--count", UINT32_MAX, 0);
    bool is_lines = args_flag(call, "--lines");
    s.interval_ms = (uint32_t)args_number(call, "--interval-ms", 3600000, 1000);

    enum fault fault = args_done(call, 0, 0);
    if (fault != FAULT_NONE) {
        return fault;
    }
    use_view(&s, 0);
    for (uint32_t i = 0; view != NULL && i < ARRAY_SIZE(views); i++) {
        if (strcmp(record_of(views[i])->name, view) == 0) {
            use_view(&s, i);
            view = NULL;
        }
    }
    if (view != NULL) {
        return fault_say(FAULT_USAGE,
                         "--view %s: queues, qps, pollers, volumes, paths, reactors or "
                         "stats",
                         view);
    }
    s.interval_ms = s.interval_ms < 50 ? 50 : s.interval_ms;
    bool is_screen = !is_lines && count == 0 && isatty(0) != 0 && isatty(1) != 0;
    fault = is_screen ? run_screen(&s) : run_lines(&s, count);
    top_free(&s.top);
    return fault;
}
