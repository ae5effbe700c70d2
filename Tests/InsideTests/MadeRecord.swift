import ABIChecker
import Glibc
import PVClock
import Synchronization

@testable import Inside

/// A record made by hand, behind a page of memory in the place of the host's: what a thread writes there, readers see.
final class MadeRecord: @unchecked Sendable {
  private let words: UnsafeMutablePointer<Atomic<UInt32>>
  private let isOver = Atomic(false)
  /// What all pairs are taken from, as the host takes them from one clock.
  private var base: ClockPage
  /// The newest whole record; only the writer touches it.
  private(set) var page: ClockPage

  /// This machine's TSC frequency in kHz: the kernel's own figure if it is the hypervisor's, else a measured one.
  static let kHz: UInt32 = {
    let facts = GuestFacts.current()
    if facts.isFrequencyKnown, let kHz = facts.shownKHz { return kHz }
    return UInt32(TSCFigures.measure(on: [usableCPUs()[0]], nanoseconds: 100_000_000).hertz / 1000)
  }()

  init(scale: TSCScale = TSCScale(tscKHz: MadeRecord.kHz), flags: ClockPage.Flags = .tscStable) {
    page = ClockPage(
      version: 2, tscTimestamp: timestampCounter(), systemTime: 1_000_000_000_000,
      tscToSystemMultiplier: scale.multiplier, tscShift: scale.shift, flags: flags)
    base = page
    words = .allocate(capacity: 8)
    for (index, word) in page.words.enumerated() {
      (words + index).initialize(to: Atomic(word))
    }
  }

  // Never freed: a record lies there as long as the program runs.
  var mapped: MappedRecord { MappedRecord(at: UnsafeRawPointer(words), place: "made by hand") }

  /// Writes without the version protocol.
  func scribble(_ change: (inout ClockPage) -> Void) {
    change(&page)
    for (index, word) in page.words.enumerated() {
      words[index].store(word, ordering: .releasing)
    }
  }

  /// An update as the host makes it, with a new pair of the same clock unless `change` says otherwise.
  func update(_ change: (inout ClockPage) -> Void = { _ in }) {
    let tsc = timestampCounter()
    page.systemTime = base.systemTime(atTSC: tsc)
    page.tscTimestamp = tsc
    let honest = page.systemTime
    change(&page)
    base.systemTime &+= page.systemTime &- honest
    page.version = VersionProtocol.begun(page.version)
    words[0].store(page.version, ordering: .sequentiallyConsistent)
    for (index, word) in page.words.enumerated().dropFirst() {
      words[index].store(word, ordering: .sequentiallyConsistent)
    }
    page.version = VersionProtocol.finished(page.version)
    words[0].store(page.version, ordering: .sequentiallyConsistent)
  }

  /// Does this again and again, in a thread of its own, while `reading` goes on.
  func keeping<Value>(
    every milliseconds: UInt64, _ body: @escaping @Sendable (MadeRecord) -> Void,
    while reading: () -> Value
  ) -> Value {
    let spoiler = Spoiler {
      while !self.isOver.load(ordering: .acquiring) {
        body(self)
        Inside.sleep(nanoseconds: milliseconds * 1_000_000)
      }
    }
    defer {
      isOver.store(true, ordering: .releasing)
      spoiler.join()
    }
    return reading()
  }

  /// What a guest with this record leaves behind.
  func history(
    milliseconds: UInt64 = 500, clocksource: String = "tsc", leafKHz: UInt32? = nil,
    cpuid: @escaping @Sendable (Int, UInt32) -> CPUIDLeaf = MadeRecord.leaves
  ) -> History {
    let facts = GuestFacts(
      kernel: "6.18.0", clocksource: clocksource, signature: "KVMKVMKVM", base: 0x4000_0000,
      features: Self.features, leafKHz: leafKHz, shownKHz: Self.kHz, isFrequencyKnown: true)
    let view = GuestView(facts: facts, record: mapped, cpus: usableCPUs(), cpuid: cpuid)
    return Recording.make(of: view, nanoseconds: milliseconds * 1_000_000)
  }

  static let features: UInt32 = 1 << 0 | 1 << 3 | 1 << 24

  static let leaves: @Sendable (Int, UInt32) -> CPUIDLeaf = { _, leaf in
    leaf & 0xff == 0 ? CPUIDLeaf(eax: 0x4000_0001) : CPUIDLeaf(eax: features)
  }
}

/// A thread that is joined.
private final class Spoiler {
  private var thread = pthread_t()

  init(_ body: @escaping @Sendable () -> Void) {
    final class Box {
      let body: @Sendable () -> Void
      init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    let box = Unmanaged.passRetained(Box(body))
    let result = pthread_create(
      &thread, nil,
      { argument in
        if let argument { Unmanaged<Box>.fromOpaque(argument).takeRetainedValue().body() }
        return nil
      }, box.toOpaque())
    precondition(result == 0)
  }

  func join() { pthread_join(thread, nil) }
}
