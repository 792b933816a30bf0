// The tutorials' programs and what users do next, with amqp091-go. Prints a line for each case.
package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const patience = 10 * time.Second

// A client's connection and a channel of it.
type client struct {
	*amqp.Channel
	connection *amqp.Connection
}

// A try ends with the first of these that fails.
type failure struct{ error }

func check(err error) {
	if err != nil {
		panic(failure{err})
	}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func equal[T any](got, wanted T) {
	if fmt.Sprint(got) != fmt.Sprint(wanted) {
		panic(failure{fmt.Errorf("got %v instead of %v", got, wanted)})
	}
}

func (c client) send(exchange, key string, message amqp.Publishing) {
	check(c.PublishWithContext(context.Background(), exchange, key, false, false, message))
}

func (c client) ownQueue(arguments amqp.Table) string {
	return must(c.QueueDeclare("", false, false, true, false, arguments)).Name
}

// Takes the next messages of a queue, by a consumer that ends then.
func (c client) take(queue string, count int) []amqp.Delivery {
	deliveries := must(c.Consume(queue, "taker", false, false, false, false, nil))
	var messages []amqp.Delivery
	for len(messages) < count {
		message := next(deliveries)
		check(message.Ack(false))
		messages = append(messages, message)
	}
	check(c.Cancel("taker", false))
	return messages
}

func next[T any](values <-chan T) T {
	select {
	case value := <-values:
		return value
	case <-time.After(patience):
		panic(failure{errors.New("nothing came")})
	}
}

func text(body string) amqp.Publishing { return amqp.Publishing{Body: []byte(body)} }

func bodies(messages []amqp.Delivery) (texts []string) {
	for _, message := range messages {
		texts = append(texts, string(message.Body))
	}
	return texts
}

func helloWorld(c client) {
	queue := must(c.QueueDeclare("hello", false, false, false, false, nil)).Name
	c.send("", queue, text("Hello World!"))
	equal(bodies(c.take(queue, 1)), []string{"Hello World!"})
}

func workQueues(c client) {
	must(c.QueueDeclare("tasks", true, false, false, false, nil))
	for number := range 10 {
		c.send("", "tasks", amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(strconv.Itoa(number))})
	}
	done := make(chan string)
	for worker := range 2 {
		channel := must(c.connection.Channel())
		check(channel.Qos(1, 0, false))
		tasks := must(channel.Consume("tasks", "", false, false, false, false, nil))
		go func() {
			for task := range tasks {
				time.Sleep(5 * time.Millisecond)
				task.Ack(false)
				done <- fmt.Sprint(worker)
			}
		}()
	}
	counts := map[string]int{}
	for range 10 {
		counts[next(done)]++
	}
	equal(len(counts), 2)
}

func publishSubscribe(c client) {
	check(c.ExchangeDeclare("logs", "fanout", false, false, false, false, nil))
	queues := []string{c.ownQueue(nil), c.ownQueue(nil)}
	for _, queue := range queues {
		check(c.QueueBind(queue, "", "logs", false, nil))
	}
	c.send("logs", "", text("info"))
	for _, queue := range queues {
		equal(bodies(c.take(queue, 1)), []string{"info"})
	}
}

func routing(c client) {
	check(c.ExchangeDeclare("direct_logs", "direct", false, false, false, false, nil))
	queue := c.ownQueue(nil)
	for _, severity := range []string{"info", "error"} {
		check(c.QueueBind(queue, severity, "direct_logs", false, nil))
	}
	for _, severity := range []string{"info", "debug", "error"} {
		c.send("direct_logs", severity, text(severity))
	}
	equal(bodies(c.take(queue, 2)), []string{"info", "error"})
}

func topics(c client) {
	check(c.ExchangeDeclare("topic_logs", "topic", false, false, false, false, nil))
	queue := c.ownQueue(nil)
	for _, pattern := range []string{"kern.#", "*.critical"} {
		check(c.QueueBind(queue, pattern, "topic_logs", false, nil))
	}
	for _, key := range []string{"kern", "kern.critical", "cron.info", "cron.critical", "a.b.critical"} {
		c.send("topic_logs", key, text(key))
	}
	equal(bodies(c.take(queue, 3)), []string{"kern", "kern.critical", "cron.critical"})
}

func remoteProcedureCall(c client) {
	must(c.QueueDeclare("rpc_queue", false, false, false, false, nil))
	callback := c.ownQueue(nil)
	c.send("", "rpc_queue", amqp.Publishing{ReplyTo: callback, CorrelationId: "one", Body: []byte("30")})
	request := c.take("rpc_queue", 1)[0]
	answer := must(strconv.Atoi(string(request.Body))) + 1
	c.send("", request.ReplyTo, amqp.Publishing{CorrelationId: request.CorrelationId, Body: []byte(strconv.Itoa(answer))})
	reply := c.take(callback, 1)[0]
	equal([]string{reply.CorrelationId, string(reply.Body)}, []string{"one", "31"})
}

func publisherConfirms(c client) {
	must(c.QueueDeclare("confirmed", true, false, false, false, nil))
	check(c.Confirm(false))
	var waiting []*amqp.DeferredConfirmation
	for range 100 {
		message := amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte("kept")}
		waiting = append(waiting, must(c.PublishWithDeferredConfirm("", "confirmed", false, false, message)))
	}
	for _, confirmation := range waiting {
		equal(must(confirmation.WaitContext(context.Background())), true)
	}
	returns := c.NotifyReturn(make(chan amqp.Return, 1))
	must(c.PublishWithDeferredConfirm("", "nowhere", true, false, text("lost")))
	returned := next(returns)
	equal(fmt.Sprint(returned.ReplyCode, " ", returned.ReplyText), "312 NO_ROUTE")
}

func aMissingQueueCostsTheChannelOnly(c client) {
	_, err := c.QueueDeclarePassive("nope", false, false, false, false, nil)
	var exception *amqp.Error
	if !errors.As(err, &exception) {
		panic(failure{fmt.Errorf("got %v", err)})
	}
	equal(exception.Reason, "NOT_FOUND - no queue 'nope' in vhost '/'")
	equal(exception.Code, 404)
	must(c.connection.Channel())
}

func aDeletedQueueEndsItsConsumers(c client) {
	must(c.QueueDeclare("doomed", false, false, false, false, nil))
	must(c.Consume("doomed", "its consumer", false, false, false, false, nil))
	cancelled := c.NotifyCancel(make(chan string, 1))
	must(must(c.connection.Channel()).QueueDelete("doomed", false, false, false))
	equal(next(cancelled), "its consumer")
}

func rejectedMessagesComeBackInTheirPlace(c client) {
	queue := c.ownQueue(nil)
	for _, body := range []string{"0", "1", "2"} {
		c.send("", queue, text(body))
	}
	first, _, err := c.Get(queue, false)
	check(err)
	check(first.Nack(false, true))
	messages := c.take(queue, 3)
	equal(bodies(messages), []string{"0", "1", "2"})
	equal(messages[0].Redelivered, true)
}

func deadLettersTellWhereTheyDied(c client) {
	graveyard := c.ownQueue(nil)
	mortal := c.ownQueue(amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": graveyard})
	c.send("", mortal, text("soul"))
	message, _, err := c.Get(mortal, false)
	check(err)
	check(message.Reject(false))
	deaths, _ := c.take(graveyard, 1)[0].Headers["x-death"].([]any)
	death, _ := slices.Concat(deaths, []any{nil})[0].(amqp.Table)
	equal(fmt.Sprint(death["queue"], death["reason"], death["count"]), fmt.Sprint(mortal, "rejected", 1))
}

func transactions(c client) {
	queue := c.ownQueue(nil)
	check(c.Tx())
	c.send("", queue, text("undone"))
	check(c.TxRollback())
	c.send("", queue, text("done"))
	check(c.TxCommit())
	equal(bodies(c.take(queue, 1)), []string{"done"})
}

func headersOfAllTypesComeBack(c client) {
	headers := amqp.Table{
		"boolean": true, "byte": byte(200), "int8": int8(-7), "int16": int16(-300), "int32": int32(70000),
		"int64": int64(1) << 40, "float": float32(1.5), "double": 2.25, "decimal": amqp.Decimal{Scale: 2, Value: 314},
		"text": "ü", "octets": []byte{0, 255}, "time": time.Unix(1700000000, 0).UTC(), "nothing": nil,
		"list": []any{int32(1), "two"}, "table": amqp.Table{"inner": amqp.Table{"deep": int32(1)}},
	}
	queue := c.ownQueue(nil)
	c.send("", queue, amqp.Publishing{Headers: headers, MessageId: "m", Type: "t", AppId: "a", Priority: 3})
	message := c.take(queue, 1)[0]
	message.Headers["time"] = message.Headers["time"].(time.Time).UTC()
	equal(message.Headers, headers)
	equal(fmt.Sprint(message.MessageId, message.Type, message.AppId, message.Priority), "mta3")
}

var cases = []struct {
	name string
	run  func(client)
}{
	{"hello world", helloWorld},
	{"work queues", workQueues},
	{"publish subscribe", publishSubscribe},
	{"routing", routing},
	{"topics", topics},
	{"remote procedure call", remoteProcedureCall},
	{"publisher confirms", publisherConfirms},
	{"a missing queue costs the channel only", aMissingQueueCostsTheChannelOnly},
	{"a deleted queue ends its consumers", aDeletedQueueEndsItsConsumers},
	{"rejected messages come back in their place", rejectedMessagesComeBackInTheirPlace},
	{"dead letters tell where they died", deadLettersTellWhereTheyDied},
	{"transactions", transactions},
	{"headers of all types come back", headersOfAllTypesComeBack},
}

func try(run func(client)) (err error) {
	connection, err := amqp.Dial("amqp://guest:guest@localhost:5672/")
	if err != nil {
		return err
	}
	defer connection.Close()
	channel, err := connection.Channel()
	if err != nil {
		return err
	}
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%v", reason)
		}
	}()
	run(client{channel, connection})
	return nil
}

func main() {
	for _, c := range cases {
		if err := try(c.run); err != nil {
			fmt.Printf("failed\t%s\t%s\n", c.name, strings.Join(strings.Fields(err.Error()), " "))
		} else {
			fmt.Printf("passed\t%s\n", c.name)
		}
	}
}
