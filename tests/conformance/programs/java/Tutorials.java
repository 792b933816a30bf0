// The tutorials' programs and what users do next, with RabbitMQ's client for Java. Prints a line for each case.

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.MessageProperties;
import com.rabbitmq.client.RpcClient;
import com.rabbitmq.client.RpcClientParams;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

public class Tutorials {
  interface Case {
    void run(Channel channel) throws Exception;
  }

  static final long SECONDS = 10;
  static final AMQP.BasicProperties NONE = new AMQP.BasicProperties();

  static void equal(Object got, Object wanted) {
    if (!got.equals(wanted)) throw new AssertionError("got " + got + " instead of " + wanted);
  }

  static void send(Channel channel, String exchange, String key, String text) throws IOException {
    channel.basicPublish(exchange, key, NONE, text.getBytes("UTF-8"));
  }

  static String ownQueue(Channel channel, Map<String, Object> arguments) throws IOException {
    return channel.queueDeclare("", false, true, false, arguments).getQueue();
  }

  /** The next messages of a queue, by a consumer that ends then. */
  static List<Delivery> take(Channel channel, String queue, int count) throws Exception {
    BlockingQueue<Delivery> arrived = new LinkedBlockingQueue<>();
    String tag = channel.basicConsume(queue, false, (its, delivery) -> arrived.add(delivery), its -> {});
    List<Delivery> messages = new ArrayList<>();
    while (messages.size() < count) {
      Delivery delivery = arrived.poll(SECONDS, TimeUnit.SECONDS);
      if (delivery == null) throw new AssertionError(messages.size() + " of " + count + " messages came");
      channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
      messages.add(delivery);
    }
    channel.basicCancel(tag);
    return messages;
  }

  static List<String> bodies(List<Delivery> messages) {
    return messages.stream().map(message -> new String(message.getBody())).toList();
  }

  static void helloWorld(Channel channel) throws Exception {
    channel.queueDeclare("hello", false, false, false, null);
    send(channel, "", "hello", "Hello World!");
    equal(bodies(take(channel, "hello", 1)), List.of("Hello World!"));
  }

  static void workQueues(Channel channel) throws Exception {
    channel.queueDeclare("tasks", true, false, false, null);
    for (int number = 0; number < 10; number++) {
      channel.basicPublish("", "tasks", MessageProperties.PERSISTENT_TEXT_PLAIN, String.valueOf(number).getBytes());
    }
    CountDownLatch done = new CountDownLatch(10);
    Set<Integer> workers = ConcurrentHashMap.newKeySet();
    for (int worker = 0; worker < 2; worker++) {
      Channel its = channel.getConnection().createChannel();
      its.basicQos(1);
      int number = worker;
      its.basicConsume("tasks", false, (tag, delivery) -> {
        pause(5);
        workers.add(number);
        its.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
        done.countDown();
      }, tag -> {});
    }
    equal(done.await(SECONDS, TimeUnit.SECONDS), true);
    equal(workers, Set.of(0, 1));
  }

  static void pause(long milliseconds) {
    try {
      Thread.sleep(milliseconds);
    } catch (InterruptedException error) {
      throw new AssertionError(error);
    }
  }

  static void publishSubscribe(Channel channel) throws Exception {
    channel.exchangeDeclare("logs", "fanout");
    List<String> queues = List.of(ownQueue(channel, null), ownQueue(channel, null));
    for (String queue : queues) channel.queueBind(queue, "logs", "");
    send(channel, "logs", "", "info");
    for (String queue : queues) equal(bodies(take(channel, queue, 1)), List.of("info"));
  }

  static void routing(Channel channel) throws Exception {
    channel.exchangeDeclare("direct_logs", "direct");
    String queue = ownQueue(channel, null);
    for (String severity : List.of("info", "error")) channel.queueBind(queue, "direct_logs", severity);
    for (String severity : List.of("info", "debug", "error")) send(channel, "direct_logs", severity, severity);
    equal(bodies(take(channel, queue, 2)), List.of("info", "error"));
  }

  static void topics(Channel channel) throws Exception {
    channel.exchangeDeclare("topic_logs", "topic");
    String queue = ownQueue(channel, null);
    for (String pattern : List.of("kern.#", "*.critical")) channel.queueBind(queue, "topic_logs", pattern);
    for (String key : List.of("kern", "kern.critical", "cron.info", "cron.critical", "a.b.critical")) {
      send(channel, "topic_logs", key, key);
    }
    equal(bodies(take(channel, queue, 3)), List.of("kern", "kern.critical", "cron.critical"));
  }

  static void remoteProcedureCall(Channel channel) throws Exception {
    channel.queueDeclare("rpc_queue", false, false, false, null);
    Channel server = channel.getConnection().createChannel();
    server.basicConsume("rpc_queue", true, (tag, request) -> {
      AMQP.BasicProperties asked = request.getProperties();
      AMQP.BasicProperties answer = NONE.builder().correlationId(asked.getCorrelationId()).build();
      int number = Integer.parseInt(new String(request.getBody())) + 1;
      server.basicPublish("", asked.getReplyTo(), answer, String.valueOf(number).getBytes());
    }, tag -> {});
    // Without a queue to reply to, the client uses RabbitMQ's direct reply-to.
    RpcClientParams parameters = new RpcClientParams().channel(channel).exchange("").routingKey("rpc_queue").timeout(10000);
    try (RpcClient client = new RpcClient(parameters)) {
      equal(client.stringCall("30"), "31");
      equal(client.stringCall("1"), "2");
    }
  }

  static void publisherConfirms(Channel channel) throws Exception {
    channel.queueDeclare("confirmed", true, false, false, null);
    channel.confirmSelect();
    for (int number = 0; number < 100; number++) send(channel, "", "confirmed", String.valueOf(number));
    channel.waitForConfirmsOrDie(SECONDS * 1000);
    equal(channel.messageCount("confirmed"), 100L);
    equal(channel.queuePurge("confirmed").getMessageCount(), 100);
    BlockingQueue<String> returned = new LinkedBlockingQueue<>();
    channel.addReturnListener(message -> returned.add(message.getReplyCode() + " " + message.getReplyText()));
    channel.basicPublish("", "nowhere", true, NONE, "lost".getBytes());
    channel.waitForConfirmsOrDie(SECONDS * 1000);
    equal(returned.poll(SECONDS, TimeUnit.SECONDS), "312 NO_ROUTE");
  }

  static void aMissingQueueCostsTheChannelOnly(Channel channel) throws Exception {
    try {
      channel.queueDeclarePassive("nope");
      throw new AssertionError("there is such a queue");
    } catch (IOException error) {
      AMQP.Channel.Close close = (AMQP.Channel.Close) ((ShutdownSignalException) error.getCause()).getReason();
      equal(close.getReplyCode() + " " + close.getReplyText(), "404 NOT_FOUND - no queue 'nope' in vhost '/'");
      equal(close.getClassId() + "." + close.getMethodId(), "50.10");
    }
    channel.getConnection().createChannel().close();
  }

  static void aDeletedQueueEndsItsConsumers(Channel channel) throws Exception {
    channel.queueDeclare("doomed", false, false, false, null);
    BlockingQueue<String> ended = new LinkedBlockingQueue<>();
    channel.basicConsume("doomed", true, "its consumer", (tag, delivery) -> {}, ended::add);
    channel.getConnection().createChannel().queueDelete("doomed");
    equal(String.valueOf(ended.poll(SECONDS, TimeUnit.SECONDS)), "its consumer");
  }

  static void rejectedMessagesComeBackInTheirPlace(Channel channel) throws Exception {
    String queue = ownQueue(channel, null);
    for (String text : List.of("0", "1", "2")) send(channel, "", queue, text);
    channel.basicReject(channel.basicGet(queue, false).getEnvelope().getDeliveryTag(), true);
    List<Delivery> messages = take(channel, queue, 3);
    equal(bodies(messages), List.of("0", "1", "2"));
    equal(messages.get(0).getEnvelope().isRedeliver(), true);
  }

  static void deadLettersTellWhereTheyDied(Channel channel) throws Exception {
    String graveyard = ownQueue(channel, null);
    Map<String, Object> arguments =
        Map.of("x-message-ttl", 20, "x-dead-letter-exchange", "", "x-dead-letter-routing-key", graveyard);
    String mortal = ownQueue(channel, arguments);
    send(channel, "", mortal, "soul");
    Map<String, Object> headers = take(channel, graveyard, 1).get(0).getProperties().getHeaders();
    Map<?, ?> death = (Map<?, ?>) ((List<?>) headers.get("x-death")).get(0);
    equal(death.get("queue") + " " + death.get("reason") + " " + death.get("count"), mortal + " expired 1");
  }

  static void exchangesFeedExchanges(Channel channel) throws Exception {
    channel.exchangeDeclare("from", "topic", false, true, null);
    channel.exchangeDeclare("to", "fanout", false, true, null);
    String queue = ownQueue(channel, null);
    channel.exchangeBind("to", "from", "a.*");
    channel.queueBind(queue, "to", "");
    send(channel, "from", "a.b", "through");
    send(channel, "from", "b.a", "not");
    equal(bodies(take(channel, queue, 1)), List.of("through"));
  }

  static void quorumQueuesCountDeliveries(Channel channel) throws Exception {
    channel.queueDeclare("quorum", true, false, false, Map.of("x-queue-type", "quorum"));
    send(channel, "", "quorum", "again");
    for (int times = 0; times < 2; times++) {
      Channel careless = channel.getConnection().createChannel();
      got(careless, "quorum");
      careless.close();
    }
    Delivery delivery = take(channel, "quorum", 1).get(0);
    equal(String.valueOf(delivery.getProperties().getHeaders().get("x-delivery-count")), "2");
  }

  /** The delivery tag of the next message, which is on its way. */
  static long got(Channel channel, String queue) throws Exception {
    for (int tries = 0; tries < SECONDS * 100; tries++, pause(10)) {
      var response = channel.basicGet(queue, false);
      if (response != null) return response.getEnvelope().getDeliveryTag();
    }
    throw new AssertionError("no message comes");
  }

  static void aConnectionIsNamedAndTuned(Channel channel) throws Exception {
    ConnectionFactory factory = new ConnectionFactory();
    factory.setRequestedHeartbeat(4);
    try (Connection connection = factory.newConnection("named")) {
      equal(connection.getClientProvidedName(), "named");
      equal(connection.getHeartbeat(), 4);
      equal(connection.getServerProperties().get("product").toString(), "RabbitMQ");
    }
  }

  public static void main(String[] arguments) throws Exception {
    Map<String, Case> cases = new LinkedHashMap<>();
    cases.put("hello world", Tutorials::helloWorld);
    cases.put("work queues", Tutorials::workQueues);
    cases.put("publish subscribe", Tutorials::publishSubscribe);
    cases.put("routing", Tutorials::routing);
    cases.put("topics", Tutorials::topics);
    cases.put("remote procedure call", Tutorials::remoteProcedureCall);
    cases.put("publisher confirms", Tutorials::publisherConfirms);
    cases.put("a missing queue costs the channel only", Tutorials::aMissingQueueCostsTheChannelOnly);
    cases.put("a deleted queue ends its consumers", Tutorials::aDeletedQueueEndsItsConsumers);
    cases.put("rejected messages come back in their place", Tutorials::rejectedMessagesComeBackInTheirPlace);
    cases.put("dead letters tell where they died", Tutorials::deadLettersTellWhereTheyDied);
    cases.put("exchanges feed exchanges", Tutorials::exchangesFeedExchanges);
    cases.put("quorum queues count deliveries", Tutorials::quorumQueuesCountDeliveries);
    cases.put("a connection is named and tuned", Tutorials::aConnectionIsNamedAndTuned);
    for (Map.Entry<String, Case> test : cases.entrySet()) {
      try (Connection connection = new ConnectionFactory().newConnection()) {
        test.getValue().run(connection.createChannel());
        System.out.println("passed\t" + test.getKey());
      } catch (Exception | AssertionError error) {
        System.out.println("failed\t" + test.getKey() + "\t" + String.valueOf(error).replaceAll("\\s+", " "));
      }
    }
    System.exit(0);
  }
}
