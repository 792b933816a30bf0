# What users of Bunny do. Prints a line for each case.

require "bunny"
require "timeout"

CASES = {}

def scenario(name, &block)
  CASES[name] = block
end

def equal(got, wanted)
  raise "got #{got.inspect} instead of #{wanted.inspect}" unless got == wanted
end

# The next messages of a queue, by a consumer that ends then.
def take(queue, count)
  messages = Queue.new
  consumer = queue.subscribe(manual_ack: true) do |delivery, properties, body|
    queue.channel.ack(delivery.delivery_tag)
    messages << [delivery, properties, body]
  end
  taken = Timeout.timeout(10) { Array.new(count) { messages.pop } }
  consumer.cancel
  taken
end

def bodies(messages)
  messages.map(&:last)
end

scenario "hello world" do |channel|
  queue = channel.queue("hello")
  channel.default_exchange.publish("Hello World!", routing_key: queue.name)
  equal bodies(take(queue, 1)), ["Hello World!"]
end

scenario "work queues" do |channel|
  channel.prefetch(1)
  queue = channel.queue("tasks", durable: true)
  10.times { |number| queue.publish(number.to_s, persistent: true) }
  equal bodies(take(queue, 10)), (0..9).map(&:to_s)
  equal queue.message_count, 0
end

scenario "publish subscribe" do |channel|
  logs = channel.fanout("logs")
  queues = Array.new(2) { channel.queue("", exclusive: true).bind(logs) }
  logs.publish("info")
  equal queues.map { |queue| bodies(take(queue, 1)) }, [["info"], ["info"]]
end

scenario "topics" do |channel|
  logs = channel.topic("topic_logs")
  queue = channel.queue("", exclusive: true)
  ["kern.#", "*.critical"].each { |pattern| queue.bind(logs, routing_key: pattern) }
  %w[kern kern.critical cron.info cron.critical a.b.critical].each { |key| logs.publish(key, routing_key: key) }
  equal bodies(take(queue, 3)), %w[kern kern.critical cron.critical]
end

scenario "headers select a queue" do |channel|
  forms = channel.headers("forms")
  queue = channel.queue("", exclusive: true)
  queue.bind(forms, arguments: { "x-match" => "any", "kind" => "invoice", "year" => 2026 })
  forms.publish("not", headers: { "kind" => "letter" })
  forms.publish("this", headers: { "year" => 2026 })
  equal bodies(take(queue, 1)), ["this"]
end

scenario "publisher confirms" do |channel|
  channel.confirm_select
  queue = channel.queue("confirmed", durable: true)
  20.times { queue.publish("kept", persistent: true) }
  equal channel.wait_for_confirms, true
  returned = Queue.new
  exchange = channel.default_exchange
  exchange.on_return { |info, _, body| returned << [info.reply_code, body] }
  exchange.publish("lost", routing_key: "nowhere", mandatory: true)
  equal Timeout.timeout(10) { returned.pop }, [312, "lost"]
end

scenario "a missing queue costs the channel only" do |channel|
  begin
    channel.queue("nope", passive: true)
    raise "there is such a queue"
  rescue Bunny::NotFound => error
    equal error.message, "NOT_FOUND - no queue 'nope' in vhost '/'"
  end
  channel.connection.create_channel.close
end

scenario "rejected messages come back in their place" do |channel|
  queue = channel.queue("", exclusive: true)
  %w[0 1 2].each { |text| queue.publish(text) }
  delivery, = queue.pop(manual_ack: true)
  channel.nack(delivery.delivery_tag, false, true)
  messages = take(queue, 3)
  equal bodies(messages), %w[0 1 2]
  equal messages.map { |delivery, *| delivery.redelivered? }, [true, false, false]
end

scenario "dead letters tell where they died" do |channel|
  graveyard = channel.queue("", exclusive: true)
  arguments = { "x-dead-letter-exchange" => "", "x-dead-letter-routing-key" => graveyard.name, "x-message-ttl" => 20 }
  mortal = channel.queue("", exclusive: true, arguments: arguments)
  mortal.publish("soul")
  _, properties, = take(graveyard, 1).first
  death = properties.headers["x-death"].first
  equal death.values_at("queue", "reason", "count"), [mortal.name, "expired", 1]
end

CASES.each do |name, block|
  connection = Bunny.new(log_level: Logger::FATAL, automatically_recover: false).start
  begin
    block.call(connection.create_channel)
    puts "passed\t#{name}"
  rescue StandardError => error
    puts "failed\t#{name}\t#{error.class}: #{error.message.gsub(/\s+/, ' ')}"
  end
  connection.close
end
