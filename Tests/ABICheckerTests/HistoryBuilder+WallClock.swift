import PVClock

@testable import ABIChecker

/// The wall clock MSR, and what it wrote where.
struct SimulatedWallClock {
  var msr: UInt64 = 0
  var bytes: [UInt64: UInt8] = [:]
  /// CLOCK_REALTIME less CLOCK_MONOTONIC_RAW: what tests slew and step.
  var realtimeOffset: UInt64 = 1_700_000_000_000_000_000
  /// Without the master clock, or always before Linux 6.7: nanoseconds between the readings of the two clocks.
  var readsApart: UInt64 = 0
  /// Added to every epoch.
  var error: Int64 = 0

  init() {}

  /// A new machine on the same host.
  init(_ before: Self) {
    (realtimeOffset, readsApart, error) = (before.realtimeOffset, before.readsApart, before.error)
  }

  func version(at address: UInt64) -> UInt32 {
    (0..<4).reduce(0) { $0 | UInt32(bytes[address &+ $1] ?? 0) << UInt32(8 * $1) }
  }

  mutating func store(_ new: some Sequence<UInt8>, at address: UInt64) {
    for (offset, byte) in new.enumerated() { bytes[address &+ UInt64(offset)] = byte }
  }
}

extension HistoryBuilder {
  /// What KVM does at the write, as kvm_write_wall_clock() has it.
  mutating func serveWall(_ address: UInt64) {
    wall.msr = address
    guard address != 0, address < 1 << 40 else { return }
    let realtime = time.raw &+ wall.realtimeOffset
    if pair == nil || wall.readsApart > 0 {
      time.pass(nanoseconds: wall.readsApart)
      time.pause()
    }
    let epoch = realtime &- clock &+ UInt64(bitPattern: wall.error)
    let record = WallClock(
      version: VersionProtocol.updated(wall.version(at: address)),
      seconds: UInt32(truncatingIfNeeded: epoch / 1_000_000_000),
      nanoseconds: UInt32(epoch % 1_000_000_000))
    wall.store(record.bytes, at: address)
  }

  mutating func writeWall(_ id: Int, at address: UInt64, msr: UInt32 = MSR.wallClock) {
    bracketed(.vcpu(id)) { host in
      host.serve(id)
      host.time.pause()
      host.serveWall(address)
      host.time.pause()
      let write = Action.wroteMSR(msr: Hex(msr), value: Hex(address), fault: nil)
      guard host.vcpus[id]!.isRegistered else { return [write] }
      let reading = host.reading(on: id)
      return [
        write,
        .read(address: Hex(host.vcpus[id]!.address), ring: 0, reading: reading, settled: true),
      ]
    }
  }

  mutating func hostWriteWall(_ id: Int, at address: UInt64, msr: UInt32 = MSR.wallClock) {
    bracketed(.host) { host in
      host.serveWall(address)
      return [.hostWroteMSR(vcpu: id, msr: Hex(msr), value: Hex(address))]
    }
  }

  mutating func fillWall(_ start: UInt64, count: Int = 140) {
    wall.store([UInt8](repeating: 0xa5, count: count), at: start)
    host(.filled(address: Hex(start), count: count, byte: 0xa5))
  }

  mutating func pokeWall(_ address: UInt64, _ version: UInt32) {
    wall.store((0..<4).map { UInt8(truncatingIfNeeded: version >> (8 * $0)) }, at: address)
    host(.poked(address: Hex(address), value: Hex(version)))
  }

  mutating func lookAtWall(_ start: UInt64, count: Int = 140) {
    let bytes = (0..<UInt64(count)).map { wall.bytes[start &+ $0] ?? 0 }
    host(.memory(address: Hex(start), bytes: HexBytes(bytes)))
  }

  /// Both MSRs on these vCPUs, as guest and as host.
  mutating func readWallMSR(_ ids: Int..., value: UInt64? = nil) {
    for id in ids {
      for msr in [MSR.wallClock, MSR.wallClockOld] {
        let value = Hex(value ?? wall.msr)
        bracketed(.vcpu(id)) { _ in [.readMSR(msr: Hex(msr), value: value, fault: nil)] }
        host(.hostReadMSR(vcpu: id, msr: Hex(msr), value: value))
      }
    }
  }

  /// A vCPU reads a wall clock record while the host works; it misses every third state of it.
  mutating func watchWall(
    _ reader: Int, at address: UInt64, rounds: Int,
    _ change: (inout WallWatchResult) -> Void = { _ in }, work: (inout Self, Int) -> Void
  ) {
    let began = begin()
    serve(reader)
    var records: [WallClock] = []
    for round in 0..<rounds {
      work(&self, round)
      let bytes = (0..<UInt64(WallClock.size)).map { wall.bytes[address &+ $0] ?? 0 }
      if round % 3 < 2, let record = WallClock(bytes: bytes) { records.append(record) }
    }
    var result = WallWatchResult(reads: 600_000, odd: 3, records: records)
    change(&result)
    end(.vcpu(reader), began, [.watchedWallClock(address: Hex(address), result: result)])
  }
}
