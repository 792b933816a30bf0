// Gathers a broker's metrics by Telegraf's own plugin, as its agent does.
package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/influxdata/telegraf"
	"github.com/influxdata/telegraf/config"
	"github.com/influxdata/telegraf/plugins/inputs/rabbitmq"
	amqp "github.com/rabbitmq/amqp091-go"
)

type measurement struct {
	name   string
	fields map[string]interface{}
	tags   map[string]string
}

// What the plugin hands over. The agent's own needs a whole agent.
type gathered struct {
	telegraf.Accumulator
	lock         sync.Mutex
	measurements []measurement
	errors       []string
}

func (g *gathered) AddFields(name string, fields map[string]interface{}, tags map[string]string, _ ...time.Time) {
	g.lock.Lock()
	defer g.lock.Unlock()
	g.measurements = append(g.measurements, measurement{name, fields, tags})
}

func (g *gathered) AddError(err error) {
	g.lock.Lock()
	defer g.lock.Unlock()
	g.errors = append(g.errors, err.Error())
}

// The number in a field of the measurement whose tag has this value.
func (g *gathered) number(name, tag, value, field string) float64 {
	for _, measured := range g.measurements {
		if measured.name == name && (tag == "" || measured.tags[tag] == value) {
			switch number := measured.fields[field].(type) {
			case int64:
				return float64(number)
			case float64:
				return number
			}
		}
	}
	return -1
}

type quiet struct{ telegraf.Logger }

func (quiet) Debugf(string, ...interface{}) {}

func gather() *gathered {
	plugin := rabbitmq.RabbitMQ{
		URL:           "http://localhost:15672",
		Username:      config.NewSecret([]byte("guest")),
		Password:      config.NewSecret([]byte("guest")),
		ClientTimeout: config.Duration(10 * time.Second),
		// Links between brokers are a plugin of RabbitMQ's.
		MetricExclude: []string{"federation"},
		Log:           quiet{},
	}
	must(plugin.Init())
	all := &gathered{}
	must(plugin.Gather(all))
	return all
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// RabbitMQ collects its statistics now and then. What is not as it should be by then never will be.
var deadline = time.Now().Add(60 * time.Second)

func becomes(name string, wanted func(*gathered) bool) {
	for {
		all := gather()
		if len(all.errors) == 0 && wanted(all) {
			fmt.Printf("passed\t%s\n", name)
			return
		}
		if time.Now().After(deadline) {
			fmt.Printf("failed\t%s\t%s %v\n", name, strings.Join(all.errors, "; "), all.measurements)
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// Every metric of the plugin, by the object that it is of.
func watch() {
	overview := func(field string, wanted float64) func(*gathered) bool {
		return func(all *gathered) bool { return all.number("rabbitmq_overview", "", "", field) == wanted }
	}
	queue := func(field string, wanted float64) func(*gathered) bool {
		return func(all *gathered) bool { return all.number("rabbitmq_queue", "queue", "metered", field) == wanted }
	}
	node := func(field string, low float64) func(*gathered) bool {
		return func(all *gathered) bool { return all.number("rabbitmq_node", "", "", field) >= low }
	}
	becomes("overview: messages", overview("messages", 7))
	becomes("overview: unacknowledged messages", overview("messages_unacked", 2))
	becomes("overview: queues", overview("queues", 1))
	becomes("overview: connections", overview("connections", 1))
	becomes("overview: channels", overview("channels", 1))
	becomes("overview: consumers", overview("consumers", 1))
	becomes("overview: published messages", overview("messages_published", 10))
	becomes("overview: acknowledged messages", overview("messages_acked", 3))
	becomes("overview: listeners", func(all *gathered) bool {
		return all.number("rabbitmq_overview", "", "", "amqp_listeners") >= 1
	})
	becomes("queue: ready messages", queue("messages_ready", 5))
	becomes("queue: unacknowledged messages", queue("messages_unack", 2))
	// RabbitMQ counts bodies alone, Warren also what is sent around them.
	becomes("queue: octets", func(all *gathered) bool {
		return all.number("rabbitmq_queue", "queue", "metered", "message_bytes") >= 7*9
	})
	becomes("queue: consumers", queue("consumers", 1))
	becomes("queue: published messages", queue("messages_publish", 10))
	becomes("queue: acknowledged messages", queue("messages_ack", 3))
	becomes("queue: delivered messages", queue("messages_deliver_get", 5))
	becomes("exchange: messages in", func(all *gathered) bool {
		return all.number("rabbitmq_exchange", "exchange", "amq.fanout", "messages_publish_in") == 10
	})
	becomes("exchange: messages out", func(all *gathered) bool {
		return all.number("rabbitmq_exchange", "exchange", "amq.fanout", "messages_publish_out") == 10
	})
	becomes("node: running", node("running", 1))
	becomes("node: memory", node("mem_used", 1<<20))
	becomes("node: its limit", node("mem_limit", 1<<20))
	becomes("node: free disk", node("disk_free", 1))
	becomes("node: file descriptors", node("fd_used", 1))
	becomes("node: their limit", node("fd_total", 1))
	becomes("node: time since the start", node("uptime", 1))
	becomes("node: memory by what it is for", node("mem_total", 1<<20))
}

func main() {
	connection, err := amqp.Dial("amqp://guest:guest@localhost:5672/")
	must(err)
	channel, err := connection.Channel()
	must(err)
	_, err = channel.QueueDeclare("metered", true, false, false, false, nil)
	must(err)
	must(channel.QueueBind("metered", "", "amq.fanout", false, nil))
	must(channel.Confirm(false))
	for range 10 {
		message := amqp.Publishing{Body: []byte("nine here"), DeliveryMode: amqp.Persistent}
		confirmation, err := channel.PublishWithDeferredConfirm("amq.fanout", "", false, false, message)
		must(err)
		confirmation.Wait()
	}
	must(channel.Qos(2, 0, false))
	deliveries, err := channel.Consume("metered", "", false, false, false, false, nil)
	must(err)
	for range 3 {
		must((<-deliveries).Ack(false))
	}
	watch()
}
