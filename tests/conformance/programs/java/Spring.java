// What an application with Spring does: a template, listeners in a container, replies, retries that end in a dead letter
// queue. Prints a line for each case.

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.springframework.amqp.AmqpRejectAndDontRequeueException;
import org.springframework.amqp.core.AcknowledgeMode;
import org.springframework.amqp.core.AnonymousQueue;
import org.springframework.amqp.core.BindingBuilder;
import org.springframework.amqp.core.Message;
import org.springframework.amqp.core.MessageListener;
import org.springframework.amqp.core.Queue;
import org.springframework.amqp.core.QueueBuilder;
import org.springframework.amqp.core.TopicExchange;
import org.springframework.amqp.rabbit.connection.CachingConnectionFactory;
import org.springframework.amqp.rabbit.connection.CorrelationData;
import org.springframework.amqp.rabbit.core.RabbitAdmin;
import org.springframework.amqp.rabbit.core.RabbitTemplate;
import org.springframework.amqp.rabbit.listener.AbstractMessageListenerContainer;
import org.springframework.amqp.rabbit.listener.DirectMessageListenerContainer;
import org.springframework.amqp.rabbit.listener.SimpleMessageListenerContainer;
import org.springframework.amqp.rabbit.listener.adapter.MessageListenerAdapter;

public class Spring {
  interface Case {
    void run(Application application) throws Exception;
  }

  /** What Spring Boot would set up. */
  static class Application {
    final CachingConnectionFactory connections = new CachingConnectionFactory("localhost");
    final RabbitAdmin admin;
    final RabbitTemplate template;

    Application() {
      connections.setPublisherConfirmType(CachingConnectionFactory.ConfirmType.CORRELATED);
      connections.setPublisherReturns(true);
      admin = new RabbitAdmin(connections);
      template = new RabbitTemplate(connections);
      template.setMandatory(true);
      template.setReplyTimeout(10000);
    }

    /** Starts a container on a queue. */
    void listen(AbstractMessageListenerContainer container, Queue queue, MessageListener listener) {
      container.setConnectionFactory(connections);
      container.setQueueNames(queue.getName());
      container.setMessageListener(listener);
      container.setAmqpAdmin(admin);
      container.afterPropertiesSet();
      container.start();
    }
  }

  static void equal(Object got, Object wanted) {
    if (!String.valueOf(got).equals(String.valueOf(wanted))) {
      throw new AssertionError("got " + got + " instead of " + wanted);
    }
  }

  static String next(BlockingQueue<String> texts) throws InterruptedException {
    return texts.poll(10, TimeUnit.SECONDS);
  }

  static void queuesAreDeclaredAndDescribed(Application application) {
    Queue queue = QueueBuilder.durable("spring.plain").build();
    application.admin.declareQueue(queue);
    application.template.convertAndSend("", "spring.plain", "one");
    equal(application.template.receiveAndConvert("spring.plain", 10000), "one");
    Properties properties = application.admin.getQueueProperties("spring.plain");
    equal(properties.get(RabbitAdmin.QUEUE_MESSAGE_COUNT), 0);
    equal(application.admin.deleteQueue("spring.plain"), true);
    equal(application.admin.getQueueProperties("spring.plain"), null);
  }

  static void listenersOfBothKindsGetMessages(Application application) throws Exception {
    TopicExchange exchange = new TopicExchange("spring.events", false, true);
    application.admin.declareExchange(exchange);
    BlockingQueue<String> texts = new LinkedBlockingQueue<>();
    List<AbstractMessageListenerContainer> containers =
        List.of(new SimpleMessageListenerContainer(), new DirectMessageListenerContainer());
    for (AbstractMessageListenerContainer container : containers) {
      Queue queue = new AnonymousQueue();
      application.admin.declareQueue(queue);
      application.admin.declareBinding(BindingBuilder.bind(queue).to(exchange).with("order.*"));
      application.listen(container, queue, message -> texts.add(new String(message.getBody())));
    }
    application.template.convertAndSend("spring.events", "order.made", "made");
    equal(next(texts) + next(texts), "mademade");
    containers.forEach(AbstractMessageListenerContainer::stop);
  }

  static void requestsAreAnswered(Application application) {
    Queue queue = new AnonymousQueue();
    application.admin.declareQueue(queue);
    SimpleMessageListenerContainer container = new SimpleMessageListenerContainer();
    MessageListenerAdapter adapter = new MessageListenerAdapter(new Object() {
      @SuppressWarnings("unused")
      public String handleMessage(String text) {
        return text.toUpperCase();
      }
    });
    application.listen(container, queue, adapter);
    equal(application.template.convertSendAndReceive("", queue.getName(), "loud"), "LOUD");
    container.stop();
  }

  static void whatAlwaysFailsBecomesADeadLetter(Application application) {
    Queue graveyard = new AnonymousQueue();
    Queue queue = QueueBuilder.nonDurable().exclusive().deadLetterExchange("")
        .deadLetterRoutingKey(graveyard.getName()).build();
    application.admin.declareQueue(graveyard);
    application.admin.declareQueue(queue);
    AtomicInteger tries = new AtomicInteger();
    SimpleMessageListenerContainer container = new SimpleMessageListenerContainer();
    application.listen(container, queue, message -> {
      if (tries.incrementAndGet() < 3) throw new IllegalStateException("once more");
      throw new AmqpRejectAndDontRequeueException("enough");
    });
    application.template.convertAndSend("", queue.getName(), "hopeless");
    Message message = application.template.receive(graveyard.getName(), 10000);
    equal(message == null ? "nothing" : message.getMessageProperties().getHeader("x-first-death-reason"), "rejected");
    equal(tries.get(), 3);
    container.stop();
  }

  static void publishesAreConfirmedOrReturned(Application application) throws Exception {
    Queue queue = new AnonymousQueue();
    application.admin.declareQueue(queue);
    CorrelationData kept = new CorrelationData("kept");
    application.template.convertAndSend("", queue.getName(), "kept", kept);
    equal(kept.getFuture().get(10, TimeUnit.SECONDS).isAck(), true);
    CorrelationData lost = new CorrelationData("lost");
    application.template.convertAndSend("", "nowhere", "lost", lost);
    equal(lost.getFuture().get(10, TimeUnit.SECONDS).isAck(), true);
    equal(lost.getReturned().getReplyText(), "NO_ROUTE");
  }

  static void aListenerSettlesItself(Application application) throws Exception {
    Queue queue = new AnonymousQueue();
    application.admin.declareQueue(queue);
    BlockingQueue<String> texts = new LinkedBlockingQueue<>();
    DirectMessageListenerContainer container = new DirectMessageListenerContainer();
    container.setAcknowledgeMode(AcknowledgeMode.MANUAL);
    container.setPrefetchCount(1);
    org.springframework.amqp.rabbit.listener.api.ChannelAwareMessageListener listener = (message, channel) -> {
      long tag = message.getMessageProperties().getDeliveryTag();
      boolean again = message.getMessageProperties().isRedelivered();
      texts.add(new String(message.getBody()) + again);
      if (again) channel.basicAck(tag, false); else channel.basicNack(tag, false, true);
    };
    application.listen(container, queue, listener);
    application.template.convertAndSend("", queue.getName(), "twice ");
    equal(next(texts) + ", " + next(texts), "twice false, twice true");
    container.stop();
  }

  public static void main(String[] arguments) {
    Map<String, Case> cases = new LinkedHashMap<>();
    cases.put("queues are declared and described", Spring::queuesAreDeclaredAndDescribed);
    cases.put("listeners of both kinds get messages", Spring::listenersOfBothKindsGetMessages);
    cases.put("requests are answered", Spring::requestsAreAnswered);
    cases.put("what always fails becomes a dead letter", Spring::whatAlwaysFailsBecomesADeadLetter);
    cases.put("publishes are confirmed or returned", Spring::publishesAreConfirmedOrReturned);
    cases.put("a listener settles itself", Spring::aListenerSettlesItself);
    for (Map.Entry<String, Case> test : cases.entrySet()) {
      Application application = new Application();
      try {
        test.getValue().run(application);
        System.out.println("passed\t" + test.getKey());
      } catch (Exception | AssertionError error) {
        Throwable cause = error;
        while (cause.getCause() != null) cause = cause.getCause();
        System.out.println("failed\t" + test.getKey() + "\t" + String.valueOf(cause).replaceAll("\\s+", " "));
      }
      application.connections.destroy();
    }
    System.exit(0);
  }
}
