public import ABIChecker
internal import CInside
internal import Glibc
internal import PVClock

/// A record that lies in this process's memory and that somebody else may be writing.
///
/// The memory is never unmapped: it is the vDSO's, a file's first page, or held by who made it.
public struct MappedRecord: @unchecked Sendable {
  let pointer: UnsafeRawPointer
  /// Where it was found: "[vvar_vclock] + 0".
  public let place: String

  /// - Parameter pointer: 32 bytes, aligned to 4, readable as long as the program runs.
  public init(at pointer: UnsafeRawPointer, place: String) {
    self.pointer = pointer
    self.place = place
  }

  /// The first page of a file, for records made by hand; nil if it can't be mapped.
  public init?(file path: String) {
    guard let page = inside_map(path) else { return nil }
    self.init(at: page, place: path)
  }

  var address: UInt64 { UInt64(UInt(bitPattern: pointer)) }

  /// Reads it once under the version protocol; not settled where the version stayed odd.
  public func read() -> (reading: Reading, isSettled: Bool) {
    var found = inside_reading()
    let isSettled = inside_read(pointer, &found) == 1
    return (Reading(found), isSettled)
  }

  func loop(nanoseconds: UInt64) -> (result: LoopResult, isSettled: Bool) {
    var found = inside_loop()
    inside_run_loop(pointer, nanoseconds, &found)
    return (LoopResult(found), found.settled == 1)
  }

  func watch(nanoseconds: UInt64) -> WatchResult {
    var found = inside_watch()
    inside_run_watch(pointer, nanoseconds, &found)
    return WatchResult(&found)
  }

  /// TSC cycles of so many readings, and of RDTSC and the loads alone.
  func measure(reads: UInt64) -> (cycles: UInt64, bare: UInt64) {
    var cycles: UInt64 = 0
    var bare: UInt64 = 0
    inside_measure(pointer, reads, &cycles, &bare)
    return (cycles, bare)
  }
}

/// What a racer saw: readings of a record, or the TSC itself.
struct RacePart: Sendable {
  var cpu: Int
  var began, ended: Instant
  var result: RaceResult
  var isSettled: Bool
}

/// Races on each of the CPUs at once for the largest reading; without a record for the largest TSC.
func race(of record: MappedRecord?, on cpus: [Int], nanoseconds: UInt64) -> [RacePart] {
  guard let shared = inside_race_make(UInt32(cpus.count)) else { return [] }
  defer { inside_race_free(shared) }
  // The threads are joined before it is freed.
  let address = UInt(bitPattern: UnsafeRawPointer(shared))
  return onEach(cpus) { cpu in
    var found = inside_part()
    let began = Instant.before()
    inside_run_race(OpaquePointer(bitPattern: address), record?.pointer, nanoseconds, &found)
    return RacePart(
      cpu: cpu, began: began, ended: Instant.after(), result: RaceResult(found),
      isSettled: found.loop.settled == 1)
  }
}

extension Instant {
  /// To be read before an action: the TSC last, so that CLOCK_MONOTONIC_RAW brackets the TSC too.
  static func before() -> Instant {
    let raw = clock(CLOCK_MONOTONIC_RAW)
    return Instant(tsc: inside_rdtsc(), raw: raw)
  }

  /// To be read after an action: the TSC first.
  static func after() -> Instant {
    let tsc = inside_rdtsc()
    return Instant(tsc: tsc, raw: clock(CLOCK_MONOTONIC_RAW))
  }
}

/// One of the kernel's clocks in nanoseconds.
func clock(_ id: clockid_t) -> UInt64 {
  var time = timespec()
  clock_gettime(id, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

func timestampCounter() -> UInt64 { inside_rdtsc() }

/// Sleeps; a signal ends it early.
func sleep(nanoseconds: UInt64) {
  var time = timespec(
    tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
  nanosleep(&time, nil)
}

/// A leaf of CPUID as the CPU gives it on which the thread runs.
public struct CPUIDLeaf: Hashable, Sendable {
  public var eax, ebx, ecx, edx: UInt32

  public init(eax: UInt32, ebx: UInt32 = 0, ecx: UInt32 = 0, edx: UInt32 = 0) {
    (self.eax, self.ebx, self.ecx, self.edx) = (eax, ebx, ecx, edx)
  }

  public static func read(_ leaf: UInt32) -> CPUIDLeaf {
    var registers: [UInt32] = [0, 0, 0, 0]
    inside_cpuid(leaf, &registers)
    return CPUIDLeaf(
      eax: registers[0], ebx: registers[1], ecx: registers[2], edx: registers[3])
  }
}

extension Reading {
  fileprivate init(_ found: inside_reading) {
    let page = withUnsafeBytes(of: found.words) {
      ClockPage(words: Array($0.bindMemory(to: UInt32.self)))
    }
    self.init(tsc: found.tsc, page: page ?? ClockPage())
  }
}

extension LoopResult {
  fileprivate init(_ found: inside_loop) {
    self.init(
      reads: found.reads, backwards: found.backwards, worst: found.worst, unstable: found.unstable,
      versions: found.versions, first: Reading(found.first), last: Reading(found.last),
      worstBefore: found.worst_before, worstAfter: Reading(found.worst_after))
  }
}

extension RaceResult {
  fileprivate init(_ found: inside_part) {
    let loop = found.loop
    self.init(
      reads: loop.reads, foreign: found.foreign, unstable: loop.unstable, versions: loop.versions,
      backwards: loop.backwards, worst: loop.worst, worstBefore: loop.worst_before,
      worstBeforeTSC: found.worst_before_tsc, worstAfter: Reading(loop.worst_after),
      first: Reading(loop.first), last: Reading(loop.last))
  }
}

extension WatchResult {
  fileprivate init(_ found: inout inside_watch) {
    let count = Int(found.stretches)
    let stretches = withUnsafeBytes(of: &found.stretch) { bytes in
      bytes.bindMemory(to: inside_stretch.self).prefix(count).map { stretch in
        let first = Reading(stretch.first)
        return Stretch(
          page: first.page, firstTSC: first.tsc, lastTSC: stretch.last_tsc, reads: stretch.reads)
      }
    }
    let words = withUnsafeBytes(of: &found.torn_pair) { Array($0.bindMemory(to: UInt32.self)) }
    let halves = [Array(words.prefix(8)), Array(words.dropFirst(8))]
    let pair = found.torn == 0 ? [] : halves.compactMap { ClockPage(words: $0) }
    self.init(
      reads: found.reads, odd: found.odd, torn: found.torn, tornPair: pair, stretches: stretches,
      dropped: found.dropped)
  }
}
