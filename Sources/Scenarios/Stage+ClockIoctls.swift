internal import ABIChecker
internal import Glibc
internal import KVM
internal import Synchronization
internal import VMBuilder

extension Stage {
  /// `KVM_GET_CLOCK` into a structure that was full of something else, its reserved words recorded too.
  @discardableResult
  func getWholeClock() throws -> ClockRecord {
    try note(
      { .getClock($0) },
      of: {
        let (data, reserved) = try machine.clock(over: 0xa5)
        var record = ClockRecord(data)
        record.reserved = reserved
        return record
      })
  }

  /// `KVM_SET_CLOCK` with whatever is in `record`; says whether it was accepted.
  @discardableResult
  func trySetClock(_ record: ClockRecord) throws -> Bool {
    let data = ClockData(
      clock: record.clock, flags: ClockFlags(rawValue: record.flags), realtime: record.realtime,
      hostTSC: record.hostTSC)
    let error = note(
      { error in
        error.map { .setClockRefused(record, error: Errno($0)) } ?? .setClock(record)
      },
      of: { () -> KVMError? in
        do throws(KVMError) {
          try machine.setClock(data)
          return nil
        } catch {
          return error
        }
      })
    return error == nil
  }

  /// What a request returned that is to return 0. With `ifAccepted` it may also be refused, and then says nothing.
  func noteReturn(
    _ request: String, ifAccepted: Bool = false, of call: () throws -> Void
  ) throws {
    let began = Moment.before()
    var result: Int32 = 0
    do {
      try call()
    } catch let error {
      if let other = KVMError(in: error)?.result {
        result = other
      } else if ifAccepted {
        return
      } else {
        throw error
      }
    }
    record(.host, began, .after(), .returned(request: request, result: result))
  }

  /// What a request answered that has to fail.
  func noteRefusal(_ request: String, _ because: Misuse, _ error: KVMError?) {
    note(.refused(request: request, because: because, error: error.map { Errno($0) }))
  }

  @discardableResult
  func noteCapability(_ capability: Capability) throws -> Int32 {
    try note(
      { .capability(name: capability.description, value: $0) },
      of: { try host.system.checkExtension(capability) })
  }

  /// Calls `KVM_GET_CLOCK` without pause on two threads; `beside` is done meanwhile.
  func raceGetClock(calls: Int, beside: () throws -> Void = {}) throws {
    let race = ClockRace()
    let machine = machine
    let worker = try WorkerThread(name: "get-clock")
    let began = Moment.before()
    worker.begin { race.run(machine, calls) }
    let meanwhile = Result { try beside() }
    race.run(machine, calls)
    while !worker.isDone(within: 1000) {}
    worker.stop()
    let ended = Moment.after()
    try meanwhile.get()
    record(.host, began, ended, .clockCalls(try race.outcome()))
  }
}

/// Threads that hold each other to the newest result that any of them has had.
private final class ClockRace: Sendable {
  private let newest = Atomic<UInt64>(0)
  private let results = Mutex(
    Result<ClockCalls, KVMError>.success(ClockCalls(threads: 0, calls: 0)))

  func outcome() throws -> ClockCalls { try results.withLock { $0 }.get() }

  func run(_ machine: Machine, _ calls: Int) {
    var own = ClockCalls(threads: 1, calls: UInt64(calls))
    do throws(KVMError) {
      for _ in 0..<calls {
        let before = newest.load(ordering: .acquiring)
        // Fenced on both sides: the call's own look at the TSC comes after.
        _ = Moment.before()
        let clock = try machine.clock().clock
        newest.max(clock, ordering: .acquiringAndReleasing)
        own.count(before, clock)
      }
      results.withLock { $0 = $0.map { $0.joined(with: own) } }
    } catch {
      results.withLock { $0 = .failure(error) }
    }
  }
}

extension ClockCalls {
  fileprivate mutating func count(_ before: UInt64, _ after: UInt64) {
    guard after < before else { return }
    backwards += 1
    let step = -Int64(clamping: before - after)
    if step < worst { (worst, worstBefore, worstAfter) = (step, before, after) }
  }

  fileprivate func joined(with other: ClockCalls) -> ClockCalls {
    var all = worst <= other.worst ? self : other
    all.threads = threads + other.threads
    all.calls = calls + other.calls
    all.backwards = backwards + other.backwards
    return all
  }
}
