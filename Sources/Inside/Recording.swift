public import ABIChecker
internal import Glibc
internal import PVClock

/// Reads the guest's clock for a while, and leaves a history.
public struct Recording {
  private let view: GuestView
  private let isCancelled: () -> Bool
  private var history: History
  private var races = 0

  /// CPUs on which loops run one after the other, and on which races run side by side.
  private static let mostLooping = 16
  private static let mostRacing = 4
  /// How often the record is looked at while nothing else is done, in nanoseconds.
  private static let interval: UInt64 = 10_000_000

  /// Records for so many nanoseconds.
  ///
  /// - Parameter isCancelled: asked now and then; what is there then is the history.
  public static func make(
    of view: GuestView, nanoseconds: UInt64, isCancelled: @escaping () -> Bool = { false }
  ) -> History {
    var recording = Recording(view, isCancelled)
    recording.leaves()
    guard let record = view.record else {
      if let absence = view.absence {
        recording.note(.lacking(what: "no record", evidence: absence.reason))
      }
      return recording.history
    }
    recording.record(record, nanoseconds)
    return recording.history
  }

  private init(_ view: GuestView, _ isCancelled: @escaping () -> Bool) {
    self.view = view
    self.isCancelled = isCancelled
    history = History(
      header: Header(
        scenario: Header.insideScenario, seed: 0,
        host: HostFacts(
          kernel: view.facts.kernel, backend: Self.backend(view.facts),
          clocksource: view.facts.clocksource, tscKHz: view.facts.kernelKHz)))
  }

  private static func backend(_ facts: GuestFacts) -> String {
    if facts.base != nil { return "inside a KVM guest" }
    return facts.isVirtual ? "inside a guest of another hypervisor" : "no virtual machine"
  }

  private mutating func record(_ record: MappedRecord, _ nanoseconds: UInt64) {
    let start = clock(CLOCK_MONOTONIC)
    let (share, end) = (nanoseconds / 20, start + nanoseconds)
    if let kHz = view.facts.leafKHz { note(.tscKHz(vcpu: 0, kHz: kHz)) }
    look(at: record)
    ticks()
    loops(record, min(1_000_000_000, 3 * share))
    race(record, min(2_000_000_000, 4 * share))
    watch(record, min(1_000_000_000, 3 * share))
    measure(record)
    look(at: record)
    wait(until: end, record)
    // A record that changed meanwhile is looked at before the clocks are read a last time.
    look(at: record)
    ticks()
    look(at: record)
  }

  // MARK: What is recorded

  /// KVM's leaves, on each CPU.
  private mutating func leaves() {
    guard let base = view.facts.base else { return }
    let cpuid = view.cpuid
    let found = onEach(Array(view.cpus.prefix(64))) { cpu in
      [base, base + 1].map { leaf in
        let began = Instant.before()
        let value = cpuid(cpu, leaf)
        return (cpu: cpu, leaf: leaf, value: value, began: began, ended: Instant.after())
      }
    }
    for part in found.joined() {
      add(
        .vcpu(part.cpu), part.began, part.ended,
        .supportedCPUID(
          function: Hex(part.leaf), eax: Hex(part.value.eax), ebx: Hex(part.value.ebx),
          ecx: Hex(part.value.ecx), edx: Hex(part.value.edx)))
    }
  }

  /// The record, under its version protocol. One whose version stays odd is a reading that did not settle.
  private mutating func look(at record: MappedRecord) {
    let began = Instant.before()
    let (reading, isSettled) = record.read()
    let ended = Instant.after()
    if isSettled {
      add(.host, began, ended, .page(vcpu: 0, address: Hex(record.address), page: reading.page))
    } else {
      unsettled(record, on: view.cpus.first ?? 0, began, ended, reading)
    }
  }

  private mutating func unsettled(
    _ record: MappedRecord, on cpu: Int, _ began: Instant, _ ended: Instant, _ reading: Reading
  ) {
    add(
      .vcpu(cpu), began, ended,
      .read(address: Hex(record.address), ring: 3, reading: reading, settled: false))
  }

  /// The tightest of many brackets around nothing: they tie the TSC to CLOCK_MONOTONIC_RAW.
  private mutating func ticks() {
    var best: (began: Instant, ended: Instant)?
    for _ in 0..<2000 {
      let began = Instant.before()
      let ended = Instant.after()
      let width = ended.raw &- began.raw
      if width < best.map({ $0.ended.raw &- $0.began.raw }) ?? .max { best = (began, ended) }
    }
    if let best { add(.host, best.began, best.ended, .tick) }
  }

  private mutating func loops(_ record: MappedRecord, _ nanoseconds: UInt64) {
    let cpus = view.cpus.prefix(Self.mostLooping)
    let share = nanoseconds / UInt64(max(1, cpus.count))
    for cpu in cpus where !isCancelled() {
      let found = onEach([cpu]) { _ in
        let began = Instant.before()
        let (result, isSettled) = record.loop(nanoseconds: share)
        return (began: began, ended: Instant.after(), result: result, isSettled: isSettled)
      }
      for part in found {
        if part.result.reads > 0 {
          add(
            .vcpu(cpu), part.began, part.ended, .looped(guest: "inside", result: part.result))
        }
        if !part.isSettled { look(at: record) }
      }
    }
  }

  private mutating func race(_ record: MappedRecord, _ nanoseconds: UInt64) {
    let cpus = Array(view.cpus.prefix(Self.mostRacing))
    guard cpus.count > 1, !isCancelled() else { return }
    races += 1
    for part in Inside.race(of: record, on: cpus, nanoseconds: nanoseconds)
    where part.result.reads > 0 {
      add(
        .vcpu(part.cpu), part.began, part.ended,
        .raced(race: races, owner: 0, result: part.result))
    }
  }

  private mutating func watch(_ record: MappedRecord, _ nanoseconds: UInt64) {
    guard !isCancelled() else { return }
    let began = Instant.before()
    let result = record.watch(nanoseconds: nanoseconds)
    add(
      .vcpu(view.cpus.first ?? 0), began, Instant.after(),
      .watched(guest: "inside", owner: 0, address: Hex(record.address), result: result))
  }

  private mutating func measure(_ record: MappedRecord) {
    let reads: UInt64 = 20_000
    let began = Instant.before()
    let (cycles, bare) = record.measure(reads: reads)
    add(
      .vcpu(view.cpus.first ?? 0), began, Instant.after(),
      .measured(reads: reads, cycles: cycles, bareCycles: bare))
  }

  /// Looks at the record now and then, and writes down each version that it shows.
  private mutating func wait(until end: UInt64, _ record: MappedRecord) {
    var version: UInt32?
    while !isCancelled() {
      let now = clock(CLOCK_MONOTONIC)
      guard now < end else { return }
      sleep(nanoseconds: min(Self.interval, end - now))
      let (reading, isSettled) = record.read()
      if !isSettled { return look(at: record) }
      if let version, version != reading.page.version { look(at: record) }
      version = reading.page.version
    }
  }

  // MARK: Events

  private mutating func note(_ action: Action) {
    let now = Instant.before()
    add(.host, now, now, action)
  }

  private mutating func add(_ actor: Actor, _ began: Instant, _ ended: Instant, _ action: Action) {
    history.events.append(
      Event(
        number: history.events.count + 1, actor: actor, began: began, ended: ended, action: action))
  }
}
