import ABIChecker
import KVM
import PVClock
import Synchronization

@testable import HostModel

/// A host whose clocks go when a test says so: the TSC at 2.5 GHz, CLOCK_MONOTONIC_RAW and CLOCK_REALTIME exactly with it.
final class SimulatedTime: HostTime {
  static let cyclesPerTwoNanoseconds: UInt64 = 5

  let countsTSC: Bool
  let tscKHz: UInt32 = 2_500_000
  /// Nanoseconds since the host started.
  private let elapsed = Atomic<UInt64>(1_000_000_000_000)

  init(countsTSC: Bool = true) { self.countsTSC = countsTSC }

  func pass(_ nanoseconds: UInt64) { elapsed.add(nanoseconds, ordering: .relaxed) }

  var raw: UInt64 { elapsed.load(ordering: .relaxed) }
  func tsc() -> UInt64 { raw / 2 * Self.cyclesPerTwoNanoseconds }
  func tscAndRaw() -> (tsc: UInt64, raw: UInt64) { (tsc(), raw) }
  func realtime() -> UInt64 { raw + 1_700_000_000_000_000_000 }
}

/// Guest memory of 1 MiB, of which a part may be read-only.
final class SimulatedRAM: GuestRAM {
  static let size: UInt64 = 1 << 20
  private let bytes = Mutex([UInt8](repeating: 0xa5, count: Int(size)))
  let readOnly: Range<UInt64>

  init(readOnly: Range<UInt64> = 0..<0) { self.readOnly = readOnly }

  func isWritable(_ address: UInt64, count: Int) -> Bool {
    guard address < Self.size, UInt64(count) <= Self.size - address else { return false }
    return !readOnly.overlaps(address..<address + UInt64(count))
  }

  func read(_ address: UInt64, count: Int) -> [UInt8]? {
    guard address < Self.size, UInt64(count) <= Self.size - address else { return nil }
    return bytes.withLock { Array($0[Int(address)..<Int(address) + count]) }
  }

  @discardableResult
  func write(_ new: [UInt8], at address: UInt64) -> Bool {
    guard isWritable(address, count: new.count) else { return false }
    bytes.withLock { $0.replaceSubrange(Int(address)..<Int(address) + new.count, with: new) }
    return true
  }

  var all: [UInt8] { bytes.withLock { $0 } }

  func page(_ address: UInt64) -> ClockPage {
    ClockPage(bytes: read(address, count: ClockPage.size)!)!
  }

  func wall(_ address: UInt64) -> WallClock {
    WallClock(bytes: read(address, count: WallClock.size)!)!
  }
}

/// A VM on that host, with so many vCPUs.
struct SimulatedVM {
  let time: SimulatedTime
  let ram: SimulatedRAM
  var clock: VMClock

  init(
    vcpus: Int = 2, policy: Policy = .keep, time: SimulatedTime = SimulatedTime(),
    ram: SimulatedRAM = SimulatedRAM()
  ) {
    self.time = time
    self.ram = ram
    clock = VMClock(time: time, memory: ram)
    clock.policy = policy
    for id in 0..<vcpus { clock.add(id, features: ~0, isConfined: false, tscOffset: 0) }
  }

  /// The guest writes the MSR and goes on.
  mutating func write(_ id: Int, _ value: UInt64, _ msr: UInt32 = MSR.systemTime) {
    _ = clock.write(msr, value, id, byHost: false)
    clock.enter(id, tscOffset: clock.vcpus[id]!.tscOffset)
  }

  mutating func enter(_ ids: Int...) {
    for id in ids { clock.enter(id, tscOffset: clock.vcpus[id]!.tscOffset) }
  }

  /// What a guest computes now from the record at an address.
  func reading(_ address: UInt64, offset: UInt64 = 0) -> UInt64 {
    ram.page(address).systemTime(atTSC: time.tsc() &+ offset)
  }
}
