internal import CInside
internal import Glibc

/// The CPUs that this process may use, at most so many.
func usableCPUs(most: Int = 1024) -> [Int] {
  var cpus = [Int32](repeating: 0, count: most)
  let count = inside_cpus(&cpus, Int32(most))
  return cpus.prefix(Int(count)).map(Int.init)
}

/// What one thread does, and what came of it.
private final class Job<Value: Sendable>: @unchecked Sendable {
  let cpu: Int
  let body: @Sendable (Int) -> Value
  /// Written by the thread before it ends, read after it was joined.
  var value: Value?

  init(_ cpu: Int, _ body: @escaping @Sendable (Int) -> Value) {
    self.cpu = cpu
    self.body = body
  }
}

/// Anything that a thread can be started with.
private protocol Startable: AnyObject {
  func start()
}

extension Job: Startable {
  func start() {
    guard inside_pin(Int32(cpu)) == 0 else { return }
    value = body(cpu)
  }
}

private final class Box {
  let job: any Startable
  init(_ job: any Startable) { self.job = job }
}

/// Does the same on each of the CPUs at once, each in a thread that is bound to it. A CPU that can't be had is left out.
func onEach<Value: Sendable>(
  _ cpus: [Int], _ body: @escaping @Sendable (Int) -> Value
) -> [Value] {
  let jobs = cpus.map { Job($0, body) }
  var threads: [pthread_t] = []
  for job in jobs {
    var thread = pthread_t()
    let box = Unmanaged.passRetained(Box(job))
    let result = pthread_create(
      &thread, nil,
      { argument in
        if let argument { Unmanaged<Box>.fromOpaque(argument).takeRetainedValue().job.start() }
        return nil
      }, box.toOpaque())
    if result == 0 { threads.append(thread) } else { box.release() }
  }
  for thread in threads { pthread_join(thread, nil) }
  return jobs.compactMap(\.value)
}
