#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/list.h"

struct item {
    int number;
    struct list link;
};

static struct list head;
static struct item items[4];

static int setup(void **state)
{
    (void)state;
    list_init(&head);
    for (int i = 0; i < 4; i++) {
        items[i].number = i;
        list_init(&items[i].link);
    }
    return 0;
}

static void fill(void)
{
    for (int i = 0; i < 4; i++) {
        list_push_back(&head, &items[i].link);
    }
}

static int pop(void)
{
    struct list *node = list_pop_front(&head);
    return node == NULL ? -1 : LIST_ENTRY(node, struct item, link)->number;
}

static void list_pop_front_gives_the_order_of_pushes(void **state)
{
    (void)state;
    fill();
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pop(), i);
    }
    assert_int_equal(pop(), -1);
    assert_true(list_is_empty(&head));
}

static void list_remove_from_the_middle_keeps_the_rest(void **state)
{
    (void)state;
    fill();
    list_remove(&items[1].link);
    list_remove(&items[3].link);
    assert_int_equal(pop(), 0);
    assert_int_equal(pop(), 2);
    assert_int_equal(pop(), -1);
}

static void list_remove_twice_is_harmless(void **state)
{
    (void)state;
    fill();
    list_remove(&items[2].link);
    list_remove(&items[2].link);
    assert_true(list_is_empty(&items[2].link));
    assert_int_equal(pop(), 0);
    assert_int_equal(pop(), 1);
    assert_int_equal(pop(), 3);
}

static void list_for_each_body_may_remove_its_node(void **state)
{
    (void)state;
    fill();
    int seen = 0;
    LIST_FOR_EACH(node, temp, &head)
    {
        assert_int_equal(LIST_ENTRY(node, struct item, link)->number, seen);
        if (seen % 2 == 0) {
            list_remove(node);
        }
        seen++;
    }
    assert_int_equal(seen, 4);
    assert_int_equal(pop(), 1);
    assert_int_equal(pop(), 3);
    assert_int_equal(pop(), -1);
}

static void list_for_each_empty_runs_nothing(void **state)
{
    (void)state;
    LIST_FOR_EACH(node, temp, &head)
    {
        fail();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(list_pop_front_gives_the_order_of_pushes, setup),
        cmocka_unit_test_setup(list_remove_from_the_middle_keeps_the_rest, setup),
        cmocka_unit_test_setup(list_remove_twice_is_harmless, setup),
        cmocka_unit_test_setup(list_for_each_body_may_remove_its_node, setup),
        cmocka_unit_test_setup(list_for_each_empty_runs_nothing, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
