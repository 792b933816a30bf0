// What users of php-amqplib do. Prints a line for each case.

require "/usr/share/php/PhpAmqpLib/autoload.php";

use PhpAmqpLib\Connection\AMQPStreamConnection;
use PhpAmqpLib\Exception\AMQPProtocolChannelException;
use PhpAmqpLib\Message\AMQPMessage;
use PhpAmqpLib\Wire\AMQPTable;

function equal($got, $wanted)
{
    if ($got != $wanted) {
        throw new Exception("got " . json_encode($got) . " instead of " . json_encode($wanted));
    }
}

function own_queue($channel, $arguments = [])
{
    return $channel->queue_declare("", false, false, true, false, false, new AMQPTable($arguments))[0];
}

/** The next messages of a queue, by a consumer that ends then. */
function take($channel, $queue, $count)
{
    $messages = [];
    $tag = $channel->basic_consume($queue, "", false, false, false, false, function ($message) use (&$messages) {
        $message->ack();
        $messages[] = $message;
    });
    while (count($messages) < $count) {
        $channel->wait(null, false, 10);
    }
    $channel->basic_cancel($tag);
    return $messages;
}

function bodies($messages)
{
    return array_map(fn($message) => $message->getBody(), $messages);
}

$cases = [
    "hello world" => function ($channel) {
        $channel->queue_declare("hello", false, false, false, false);
        $channel->basic_publish(new AMQPMessage("Hello World!"), "", "hello");
        equal(bodies(take($channel, "hello", 1)), ["Hello World!"]);
    },
    "work queues" => function ($channel) {
        $channel->queue_declare("tasks", false, true, false, false);
        $channel->basic_qos(0, 1, false);
        foreach (range(0, 9) as $number) {
            $message = new AMQPMessage("$number", ["delivery_mode" => AMQPMessage::DELIVERY_MODE_PERSISTENT]);
            $channel->basic_publish($message, "", "tasks");
        }
        equal(bodies(take($channel, "tasks", 10)), range(0, 9));
        equal($channel->queue_declare("tasks", true)[1], 0);
    },
    "publish subscribe" => function ($channel) {
        $channel->exchange_declare("logs", "fanout", false, false, false);
        $queues = [own_queue($channel), own_queue($channel)];
        foreach ($queues as $queue) {
            $channel->queue_bind($queue, "logs");
        }
        $channel->basic_publish(new AMQPMessage("info"), "logs");
        foreach ($queues as $queue) {
            equal(bodies(take($channel, $queue, 1)), ["info"]);
        }
    },
    "topics" => function ($channel) {
        $channel->exchange_declare("topic_logs", "topic", false, false, false);
        $queue = own_queue($channel);
        foreach (["kern.#", "*.critical"] as $pattern) {
            $channel->queue_bind($queue, "topic_logs", $pattern);
        }
        foreach (["kern", "kern.critical", "cron.info", "cron.critical", "a.b.critical"] as $key) {
            $channel->basic_publish(new AMQPMessage($key), "topic_logs", $key);
        }
        equal(bodies(take($channel, $queue, 3)), ["kern", "kern.critical", "cron.critical"]);
    },
    "remote procedure call" => function ($channel) {
        $channel->queue_declare("rpc_queue", false, false, false, false);
        $callback = own_queue($channel);
        $asked = new AMQPMessage("30", ["reply_to" => $callback, "correlation_id" => "one"]);
        $channel->basic_publish($asked, "", "rpc_queue");
        [$request] = take($channel, "rpc_queue", 1);
        $answer = new AMQPMessage("31", ["correlation_id" => $request->get("correlation_id")]);
        $channel->basic_publish($answer, "", $request->get("reply_to"));
        [$reply] = take($channel, $callback, 1);
        equal([$reply->get("correlation_id"), $reply->getBody()], ["one", "31"]);
    },
    "publisher confirms" => function ($channel) {
        $channel->queue_declare("confirmed", false, true, false, false);
        [$acks, $returned] = [0, []];
        $channel->set_ack_handler(function () use (&$acks) {
            $acks++;
        });
        $channel->set_return_listener(function ($code, $text) use (&$returned) {
            $returned[] = "$code $text";
        });
        $channel->confirm_select();
        foreach (range(1, 20) as $_) {
            $channel->basic_publish(new AMQPMessage("kept"), "", "confirmed", true);
        }
        $channel->basic_publish(new AMQPMessage("lost"), "", "nowhere", true);
        $channel->wait_for_pending_acks_returns(10);
        equal([$acks, $returned], [21, ["312 NO_ROUTE"]]);
    },
    "a missing queue costs the channel only" => function ($channel, $connection) {
        try {
            $channel->queue_declare("nope", true);
            throw new Exception("there is such a queue");
        } catch (AMQPProtocolChannelException $error) {
            equal($error->amqp_reply_code, 404);
            equal($error->amqp_reply_text, "NOT_FOUND - no queue 'nope' in vhost '/'");
        }
        $connection->channel()->close();
    },
    "rejected messages come back in their place" => function ($channel) {
        $queue = own_queue($channel);
        foreach (["0", "1", "2"] as $text) {
            $channel->basic_publish(new AMQPMessage($text), "", $queue);
        }
        $channel->basic_get($queue)->nack(true);
        $messages = take($channel, $queue, 3);
        equal(bodies($messages), ["0", "1", "2"]);
        equal(array_map(fn($message) => $message->isRedelivered(), $messages), [true, false, false]);
    },
    "dead letters tell where they died" => function ($channel) {
        $graveyard = own_queue($channel);
        $arguments = ["x-dead-letter-exchange" => "", "x-dead-letter-routing-key" => $graveyard, "x-message-ttl" => 20];
        $mortal = own_queue($channel, $arguments);
        $channel->basic_publish(new AMQPMessage("soul"), "", $mortal);
        [$message] = take($channel, $graveyard, 1);
        $death = $message->get("application_headers")->getNativeData()["x-death"][0];
        equal([$death["queue"], $death["reason"], $death["count"]], [$mortal, "expired", 1]);
    },
];

foreach ($cases as $name => $case) {
    $connection = new AMQPStreamConnection("localhost", 5672, "guest", "guest");
    try {
        $case($connection->channel(), $connection);
        echo "passed\t$name\n";
    } catch (Throwable $error) {
        echo "failed\t$name\t", preg_replace("/\s+/", " ", get_class($error) . ": " . $error->getMessage()), "\n";
    }
    try {
        $connection->close();
    } catch (Throwable $error) {
    }
}
