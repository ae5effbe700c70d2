internal import PVClock

/// A write of a wall clock MSR, and guest memory as the host saw it before the next one.
struct WallWrite {
  var step: Step
  var msr: Hex
  var address: UInt64
  var fault: Fault?
  /// The version that the record had before, and the event that shows it.
  var before: (event: Event, version: UInt32)?
  /// The guest memory that held 0xa5.
  var filled: Interval?
  /// The first look at the whole record.
  var look: (event: Event, start: UInt64, bytes: [UInt8])?

  /// Place of the event in the history, from 0.
  var index: Int { step.index }
  var event: Event { step.event }
  /// Counts the machines and the settings of their clock, as observations do.
  var epoch: Int { step.machine.epoch }
  /// Counts the machines.
  var machine: Int { step.machine.number }
  var isByHost: Bool { event.actor == .host }

  /// The record's place among the bytes looked at.
  var place: Range<Int>? {
    look.map { Int(address - $0.start)..<Int(address - $0.start) + WallClock.size }
  }

  var record: WallClock? {
    guard let look, let place else { return nil }
    return WallClock(bytes: look.bytes[place])
  }
}

/// The writes of one machine, with the memory around their records.
private struct WallPass {
  private(set) var writes: [WallWrite] = []
  private var versions: [UInt64: (event: Event, version: UInt32)] = [:]
  private var filled: Interval?
  private var isOpen = false

  mutating func take(_ step: Step) {
    let event = step.event
    switch event.action {
    case .filled(let address, let count, let byte):
      (versions, isOpen) = ([:], false)
      let start = Int128(address.value)
      filled = byte == 0xa5 ? Interval(start, start + Int128(count)) : nil
    case .poked(let address, let value):
      (filled, isOpen) = (nil, false)
      versions = [address.value: (event, UInt32(truncatingIfNeeded: value.value))]
    case .wroteMSR(let msr, let value, let fault) where MSR.isWallClock(msr):
      add(step, msr, value.value, fault)
    case .hostWroteMSR(_, let msr, let value) where MSR.isWallClock(msr):
      add(step, msr, value.value, nil)
    case .memory(let address, let hex): look(event, address.value, hex.bytes)
    default: if event.isSystemTimeWrite { filled = nil }
    }
  }

  private mutating func add(_ step: Step, _ msr: Hex, _ address: UInt64, _ fault: Fault?) {
    writes.append(
      WallWrite(
        step: step, msr: msr, address: address, fault: fault, before: versions[address],
        filled: filled))
    (versions, filled, isOpen) = ([:], nil, true)
  }

  private mutating func look(_ event: Event, _ start: UInt64, _ bytes: [UInt8]) {
    guard isOpen, let write = writes.last, write.look == nil, write.fault == nil,
      write.address != 0, write.address >= start,
      Int128(write.address) + Int128(WallClock.size) <= Int128(start) + Int128(bytes.count)
    else { return }
    writes[writes.count - 1].look = (event, start, bytes)
    if let record = writes[writes.count - 1].record {
      versions = [write.address: (event, record.version)]
    }
  }
}

/// CLOCK_REALTIME less CLOCK_MONOTONIC_RAW, as one reading of it shows: the narrower its bracket, the narrower.
struct RealtimeReading {
  var index: Int
  var event: Event
  var offset: Interval
}

/// The time between two readings of CLOCK_REALTIME that follow one another.
struct RealtimeSpan {
  var first: RealtimeReading
  var last: RealtimeReading

  /// The offset between the two: it may go from one to the other at any rate or in one step.
  var offset: Interval {
    Interval(
      min(first.offset.lower, last.offset.lower), max(first.offset.upper, last.offset.upper))
  }

  /// The most by which CLOCK_REALTIME's rate may have been off CLOCK_MONOTONIC_RAW's if it was constant, in parts per
  /// billion; nil if the readings overlap or tell nothing.
  var slew: Int128? {
    let elapsed = first.event.elapsed(to: last.event).lower
    guard elapsed > 0, offset.width < elapsed else { return nil }
    return (offset.width * 1_000_000_000 + elapsed - 1) / elapsed
  }
}

extension Timeline {
  var wallWrites: [WallWrite] {
    machines.flatMap { machine in
      var pass = WallPass()
      for step in machine.steps { pass.take(step) }
      return pass.writes
    }
  }

  var realtimeSpans: [RealtimeSpan] {
    let readings = history.events.enumerated().compactMap { index, event -> RealtimeReading? in
      guard case .hostClock("CLOCK_REALTIME", let nanoseconds) = event.action else { return nil }
      let realtime = Int128(nanoseconds)
      return RealtimeReading(
        index: index, event: event,
        offset: Interval(
          realtime - Int128(event.ended.raw) - rounding,
          realtime - Int128(event.began.raw) + rounding))
    }
    let steps = history.events.indices.filter {
      if case .hostChanged("realtime", _, _) = history.events[$0].action { true } else { false }
    }
    // A step that the scenario made says nothing of how steady the clock is.
    return zip(readings, readings.dropFirst()).filter { first, last in
      !steps.contains { first.index < $0 && $0 < last.index }
    }.map { RealtimeSpan(first: $0, last: $1) }
  }

  /// The epoch that the host has to write in this step: CLOCK_REALTIME less kvmclock, each read at some moment of it.
  ///
  /// kvmclock's side comes from the next clock record that a guest read; CLOCK_REALTIME's from the readings before and
  /// after the step, widened by as much as it moved against CLOCK_MONOTONIC_RAW between any two: it may be slewed or
  /// stepped at any time.
  func epoch(
    of step: Step, _ spans: [RealtimeSpan]
  ) -> (allowed: Interval, isStable: Bool, events: [Event])? {
    let event = step.event
    guard
      let span = spans.first(where: { $0.first.index < step.index && step.index < $0.last.index }),
      let reading = observations.first(where: {
        $0.index > step.index && $0.epoch == step.machine.epoch && $0.page != nil
      })
    else { return nil }
    let moved = spans.map(\.offset.width).max() ?? 0
    let realtime = Interval(
      Int128(event.began.raw) + span.offset.lower - moved,
      Int128(event.ended.raw) + span.offset.upper + moved)
    let elapsed = event.elapsed(to: reading.event)
    let slack = drift(until: reading) + rounding
    let clock = Interval(
      Int128(reading.value) - elapsed.upper - reading.lead - slack,
      Int128(reading.value) - elapsed.lower + slack)
    return (
      Interval(realtime.lower - clock.upper, realtime.upper - clock.lower), reading.isStable,
      [span.first.event, event, reading.event, span.last.event]
    )
  }
}
