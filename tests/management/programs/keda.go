// Asks a broker how long its queues are, by KEDA's own scaler, as KEDA's operator does for a ScaledObject.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/kedacore/keda/v2/pkg/scalers"
	"github.com/kedacore/keda/v2/pkg/scalers/scalersconfig"
	amqp "github.com/rabbitmq/amqp091-go"
	v2 "k8s.io/api/autoscaling/v2"
)

const (
	http     = "http://guest:guest@localhost:15672/%2F"
	overAMQP = "amqp://guest:guest@localhost:5672/%2F"
)

// The trigger of a ScaledObject.
type trigger map[string]string

func (t trigger) with(pairs ...string) trigger {
	changed := trigger{}
	for key, value := range t {
		changed[key] = value
	}
	for i := 0; i < len(pairs); i += 2 {
		changed[pairs[i]] = pairs[i+1]
	}
	return changed
}

// What the scaler says: the metric, and whether anything is to be scaled up from zero.
func (t trigger) metric() (float64, bool, error) {
	config := scalersconfig.ScalerConfig{
		ScalableObjectName:      "shipping",
		ScalableObjectNamespace: "shop",
		TriggerMetadata:         t,
		AuthParams:              map[string]string{},
		ResolvedEnv:             map[string]string{},
		GlobalHTTPTimeout:       10 * time.Second,
		MetricType:              v2.AverageValueMetricType,
	}
	scaler, err := scalers.NewRabbitMQScaler(&config)
	if err != nil {
		return 0, false, err
	}
	defer scaler.Close(context.Background())
	values, active, err := scaler.GetMetricsAndActivity(context.Background(), "length")
	if err != nil {
		return 0, false, err
	}
	return values[0].Value.AsApproximateFloat64(), active, nil
}

func check(name string, failure string) {
	if failure == "" {
		fmt.Printf("passed\t%s\n", name)
	} else {
		fmt.Printf("failed\t%s\t%s\n", name, strings.Join(strings.Fields(failure), " "))
	}
}

// RabbitMQ collects its statistics now and then. What is not as it should be by then never will be.
var deadline = time.Now().Add(60 * time.Second)

// Asks until the metric is as it should be, and says what it was last if it never is.
func (t trigger) becomes(name string, wanted func(metric float64, active bool) bool) {
	for {
		metric, active, err := t.metric()
		if err == nil && wanted(metric, active) {
			check(name, "")
			return
		}
		if time.Now().After(deadline) {
			check(name, fmt.Sprintf("metric %v, active %v, error %v", metric, active, err))
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (t trigger) measures(name string, length float64) {
	t.becomes(name, func(metric float64, active bool) bool { return metric == length && active == (length > 0) })
}

func (t trigger) isRefused(name string, reason string) {
	_, _, err := t.metric()
	if err != nil && strings.Contains(err.Error(), reason) {
		check(name, "")
	} else {
		check(name, fmt.Sprintf("error %v", err))
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func open() (*amqp.Connection, *amqp.Channel) {
	connection, err := amqp.Dial(overAMQP)
	must(err)
	channel, err := connection.Channel()
	must(err)
	return connection, channel
}

func fill(channel *amqp.Channel, name string, messages int) {
	_, err := channel.QueueDeclare(name, true, false, false, false, nil)
	must(err)
	must(channel.Confirm(false))
	for range messages {
		confirmation, err := channel.PublishWithDeferredConfirm("", name, false, false, amqp.Publishing{Body: []byte("one")})
		must(err)
		confirmation.Wait()
	}
}

func lengths(channel *amqp.Channel) {
	simple := trigger{"queueName": "orders", "mode": "QueueLength", "value": "10", "host": http, "protocol": "http"}
	fill(channel, "orders", 5)
	fill(channel, "orders-2", 2)
	fill(channel, "empty", 0)
	simple.measures("a queue's length over HTTP", 5)
	simple.with("host", strings.TrimSuffix(http, "%2F"), "vhostName", "/").measures("the virtual host by name", 5)
	simple.with("queueName", "empty").measures("an empty queue is not active", 0)
	simple.with("activationValue", "7").becomes("a queue shorter than the activation value is not active",
		func(metric float64, active bool) bool { return metric == 5 && !active })
	expression := simple.with("queueName", "^orders", "useRegex", "true", "pageSize", "50")
	expression.measures("the sum of the queues of an expression", 7)
	expression.with("operation", "max").measures("the longest queue of an expression", 5)
	expression.with("operation", "avg").measures("the average of the queues of an expression", 3)
	expression.with("queueName", "^nothing").measures("an expression without queues", 0)
	expression.with("pageSize", "1").isRefused("more queues than a page holds", "more queues than can be recovered")
	simple.with("queueName", "missing").isRefused("a queue that is not there", "404")
	simple.with("host", "http://guest:wrong@localhost:15672/%2F").isRefused("a wrong password", "401")

	_, err := channel.Consume("orders", "", false, false, false, false, nil)
	must(err)
	simple.measures("unacknowledged messages count", 5)
	simple.with("excludeUnacknowledged", "true").measures("unless they are excluded", 0)

	ready := trigger{"queueName": "orders-2", "mode": "QueueLength", "value": "10", "host": overAMQP, "protocol": "amqp"}
	ready.measures("a queue's length over AMQP", 2)
	ready.with("host", strings.TrimSuffix(overAMQP, "%2F"), "vhostName", "/").measures("the same with the virtual host by name", 2)
	ready.with("protocol", "auto").measures("the protocol by the address", 2)
	ready.with("queueName", "missing").isRefused("a queue that is not there, over AMQP", "404")
}

// Publishes and consumes all the time, so that there are rates: up to 100 and 50 a second, less on a busy machine.
func keepBusy(name string) {
	_, publisher := open()
	fill(publisher, name, 1)
	_, consumer := open()
	must(consumer.Qos(10, 0, false))
	deliveries, err := consumer.Consume(name, "", false, false, false, false, nil)
	must(err)
	go func() {
		for delivery := range deliveries {
			time.Sleep(20 * time.Millisecond)
			must(delivery.Ack(false))
		}
	}()
	go func() {
		for {
			must(publisher.Publish("", name, false, false, amqp.Publishing{Body: []byte("one")}))
			time.Sleep(10 * time.Millisecond)
		}
	}()
}

func rates() {
	keepBusy("busy")
	asked := trigger{"queueName": "busy", "value": "10", "host": http, "protocol": "http"}
	near := func(low, high float64) func(float64, bool) bool {
		return func(metric float64, active bool) bool { return active && low < metric && metric < high }
	}
	asked.with("mode", "MessageRate").becomes("messages published in a second", near(10, 120))
	asked.with("mode", "DeliverGetRate").becomes("messages delivered in a second", near(5, 65))
	asked.with("mode", "PublishedToDeliveredRatio").becomes("more is published than delivered", near(1, 8))
	asked.with("mode", "ExpectedQueueConsumptionTime").becomes("the time until the queue is empty", near(0.1, 600))
}

func main() {
	_, channel := open()
	lengths(channel)
	rates()
}
