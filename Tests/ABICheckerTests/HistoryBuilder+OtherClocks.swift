import PVClock

@testable import ABIChecker

/// What KVM makes of a vCPU's record for guests of Hyper-V and Xen.
struct SimulatedOtherClocks {
  var hasPage = false
  var wantsPage = false
  var sequence: UInt32 = 0
  /// Counts the valid sequences.
  private var made: UInt32 = 0
  var scale: UInt64 = 0
  var offset: UInt64 = 0
  var xen: [OtherClocks.Place: ClockPage] = [:]
  var isXenUnstable = false

  mutating func publish(_ record: ClockPage, on id: Int) {
    for each in OtherClocks.XenRecord.allCases {
      let place = OtherClocks.Place.xenRecord(vcpu: id, in: each)
      guard let old = xen[place] else { continue }
      var new = record
      new.version = VersionProtocol.updated(old.version)
      new.flags.remove(.guestStopped)
      if isXenUnstable { new.flags.remove(.tscStable) }
      xen[place] = new
    }
    guard hasPage, wantsPage else { return }
    (wantsPage, sequence) = (false, 0)
    guard record.flags.contains(.tscStable) else { return }
    let shift = UInt128(32 + Int(record.tscShift))
    scale = UInt64((UInt128(1) << shift) * UInt128(record.tscToSystemMultiplier) / 100)
    offset =
      record.systemTime / 100 &- record.tscTimestamp.multipliedFullWidth(by: scale).high
    made += 1
    sequence = made
  }

  var page: [UInt8] {
    func bytes(_ value: some FixedWidthInteger) -> [UInt8] {
      withUnsafeBytes(of: value.littleEndian) { Array($0) }
    }
    return bytes(UInt64(sequence)) + bytes(scale) + bytes(offset)
  }
}

extension HistoryBuilder {
  static let referencePage: UInt64 = 0x30000

  mutating func enableReferencePage() {
    bracketed(.vcpu(0)) { host in
      host.serve(0)
      host.others.hasPage = true
      host.takePair()
      host.serve(0)
      return [
        .wroteMSR(msr: Hex(MSR.referenceTSC), value: Hex(Self.referencePage | 1), fault: nil)
      ]
    }
  }

  mutating func compareWithHyperV() {
    for id in [0, 1] { enter(id) }
    for id in [0, 1, 0, 1] {
      host(.memory(address: Hex(Self.referencePage), bytes: HexBytes(others.page)))
      read(id)
      bracketed(.vcpu(id)) { host in
        host.serve(id)
        host.time.pause()
        return [
          .readMSR(msr: Hex(MSR.referenceCount), value: Hex(host.referenceCount), fault: nil)
        ]
      }
      read(id)
      host(.memory(address: Hex(Self.referencePage), bytes: HexBytes(others.page)))
    }
  }

  private var referenceCount: UInt64 {
    guard others.sequence != 0, !others.wantsPage else { return clock / 100 }
    let tsc = time.cycles &+ vcpus[0]!.tscOffset
    return tsc.multipliedFullWidth(by: others.scale).high &+ others.offset
  }

  mutating func registerXenRecords(
    _ id: Int, _ records: [OtherClocks.XenRecord] = OtherClocks.XenRecord.allCases
  ) {
    for record in records {
      bracketed(.host) { host in
        host.others.xen[.xenRecord(vcpu: id, in: record)] = ClockPage()
        host.vcpus[id]?.wantsRecord = true
        let address = Self.xenRecord(record, of: id)
        return switch record {
        case .timeInfo: [.xenTimeSet(vcpu: id, address: Hex(address))]
        case .info:
          [.xenInfoSet(vcpu: id, address: Hex(address - 32))]
        }
      }
    }
  }

  static func xenRecord(_ record: OtherClocks.XenRecord, of id: Int) -> UInt64 {
    0x31000 + UInt64(id) * 0x1000 + (record == .info ? 0x60 : 0)
  }

  static let sharedInfo: UInt64 = 0x35000

  /// `KVM_XEN_ATTR_TYPE_SHARED_INFO`, in each layout.
  mutating func shareXenInfo() {
    for is64Bit in [true, false] {
      let (start, count): (UInt64, Int) =
        is64Bit ? (Self.sharedInfo + 0xc00, 16) : (Self.sharedInfo + 0x900, 40)
      wall.store([UInt8](repeating: 0xa5, count: count), at: start)
      readRealtime()
      bracketed(.host) { host in
        host.serveWall(start)
        host.wall.store([0, 0, 0, 0], at: start + UInt64(count) - 4)
        host.takePair()
        return [.xenSharedInfoSet(address: Hex(Self.sharedInfo), is64Bit: is64Bit)]
      }
      lookAtWall(start, count: count)
      read(0)
      readRealtime()
    }
  }

  mutating func setXenUnstable(_ isUnstable: Bool) {
    bracketed(.host) { host in
      host.others.isXenUnstable = isUnstable
      host.refreshAll()
      return [.xenUnstableSet(isUnstable)]
    }
  }

  mutating func compareWithXen() {
    for id in [0, 1] { enter(id) }
    for id in [0, 1, 0, 1] {
      lookAtXenRecords(id)
      read(id)
      lookAtXenRecords(id)
    }
  }

  private mutating func lookAtXenRecords(_ id: Int) {
    for record in OtherClocks.XenRecord.allCases {
      guard let page = others.xen[.xenRecord(vcpu: id, in: record)] else { continue }
      host(.memory(address: Hex(Self.xenRecord(record, of: id)), bytes: HexBytes(page.bytes)))
    }
  }

  /// KVM_HC_CLOCK_PAIRING.
  mutating func pairClocks(_ id: Int, clock: UInt32 = 0) {
    bracketed(.vcpu(id)) { host in
      host.serve(id)
      host.time.pause()
      var bytes = [UInt8](repeating: 0xa5, count: 64)
      let isRefused = clock != 0 || !host.time.source.allowsMasterClock
      if !isRefused {
        let words = [
          host.realtime / 1_000_000_000, host.realtime % 1_000_000_000,
          host.time.cycles &+ host.vcpus[id]!.tscOffset,
        ]
        bytes = words.flatMap { word in withUnsafeBytes(of: word.littleEndian) { Array($0) } }
        bytes += [UInt8](repeating: 0, count: 40)
      }
      return [
        .paired(address: 0x40000, clock: clock, result: isRefused ? -95 : 0, bytes: HexBytes(bytes))
      ]
    }
  }
}

extension History {
  /// The same with other actions, by what `change` does to each.
  func changed(_ change: (inout Action) -> Void) -> History {
    var history = self
    for index in history.events.indices { change(&history.events[index].action) }
    return history
  }

  /// The same from the last `KVM_SET_CLOCK` on.
  func changedSinceSetClock(_ change: (inout Action) -> Void) -> History {
    var history = self
    let set = events.lastIndex { if case .setClock = $0.action { true } else { false } } ?? 0
    for index in set..<events.count { change(&history.events[index].action) }
    return history
  }
}

extension Action {
  /// Changes so many bytes of memory at an address, if this shows them.
  mutating func changeMemory(_ address: UInt64, _ change: (inout [UInt8]) -> Void) {
    guard case .memory(Hex(address), var shown) = self else { return }
    change(&shown.bytes)
    self = .memory(address: Hex(address), bytes: shown)
  }

  mutating func changeReferencePage(
    _ change: (_ sequence: inout UInt32, _ offset: inout UInt64) -> Void
  ) {
    changeMemory(HistoryBuilder.referencePage) { bytes in
      bytes.withUnsafeMutableBytes { raw in
        var sequence = raw.load(fromByteOffset: 0, as: UInt32.self)
        var offset = raw.load(fromByteOffset: 16, as: UInt64.self)
        change(&sequence, &offset)
        raw.storeBytes(of: sequence, toByteOffset: 0, as: UInt32.self)
        raw.storeBytes(of: offset, toByteOffset: 16, as: UInt64.self)
      }
    }
  }

  mutating func changeCount(_ change: (inout UInt64) -> Void) {
    guard case .readMSR(Hex(MSR.referenceCount), var value, nil) = self else { return }
    change(&value.value)
    self = .readMSR(msr: Hex(MSR.referenceCount), value: value, fault: nil)
  }

  mutating func changeXenRecord(
    of vcpu: Int, in record: OtherClocks.XenRecord = .timeInfo,
    _ change: (inout ClockPage) -> Void
  ) {
    changeMemory(HistoryBuilder.xenRecord(record, of: vcpu)) { bytes in
      var page = ClockPage(bytes: bytes)!
      change(&page)
      bytes = page.bytes
    }
  }

  mutating func changePairing(_ change: (inout Int64, inout [UInt8]) -> Void) {
    guard case .paired(let address, let clock, var result, var shown) = self else { return }
    change(&result, &shown.bytes)
    self = .paired(address: address, clock: clock, result: result, bytes: shown)
  }
}
