import PVClock

@testable import ABIChecker

/// Who may use the clock's MSRs in the simulated KVM, and the one wall clock of the machine.
struct SimulatedGate {
  var features: [Int: UInt64] = [:]
  var enforced: Set<Int> = []
  var denied: Set<UInt32> = []
  var wallClock: UInt64 = 0

  func allows(_ id: Int, _ msr: UInt32) -> Bool {
    let isOffered = (features[id] ?? 0) >> MSR.featureBit(Hex(msr)) & 1 == 1
    return !denied.contains(msr) && (isOffered || !enforced.contains(id))
  }
}

extension HistoryBuilder {
  /// A vCPU with a CPUID of its own; `features` nil leaves KVM's leaves out.
  mutating func createVCPU(
    _ id: Int, features: UInt64?, enforced: VCPUState.Enforcement?
  ) {
    createVCPU(id)
    if enforced == .before { host(.featuresEnforced(vcpu: id)) }
    gate.features[id] = features ?? 0
    host(features.map { .featuresSet(vcpu: id, features: Hex($0)) } ?? .cpuidWithoutKVM(vcpu: id))
    if enforced == .after { host(.featuresEnforced(vcpu: id)) }
    if enforced != nil { gate.enforced.insert(id) }
  }

  mutating func deny(_ msrs: [UInt32]) {
    gate.denied = Set(msrs)
    host(.msrsDenied(msrs: msrs.map { Hex($0) }))
  }

  static let gp = Fault(vector: 13, errorCode: 0, address: 0x8123)

  /// The guest's WRMSR of any clock MSR.
  mutating func tryWrite(_ id: Int, _ msr: UInt32, _ value: UInt64) {
    bracketed(.vcpu(id)) { host in
      host.serve(id)
      let isAllowed = host.gate.allows(id, msr)
      if isAllowed { host.accept(value, to: msr, on: id) }
      return [.wroteMSR(msr: Hex(msr), value: Hex(value), fault: isAllowed ? nil : Self.gp)]
    }
  }

  private mutating func accept(_ value: UInt64, to msr: UInt32, on id: Int) {
    if MSR.isSystemTime(Hex(msr)) {
      write(value, to: msr, on: id)
      serve(id)
    } else {
      gate.wallClock = value
      serveWall(value)
    }
  }

  /// The guest's RDMSR of any clock MSR.
  mutating func tryRead(_ id: Int, _ msr: UInt32) {
    bracketed(.vcpu(id)) { host in
      host.serve(id)
      guard host.gate.allows(id, msr) else {
        return [.readMSR(msr: Hex(msr), value: 0x77, fault: Self.gp)]
      }
      return [.readMSR(msr: Hex(msr), value: Hex(host.value(of: msr, on: id)), fault: nil)]
    }
  }

  func value(of msr: UInt32, on id: Int) -> UInt64 {
    MSR.isSystemTime(Hex(msr)) ? vcpus[id]!.msr : gate.wallClock
  }

  /// As `Stage.tryClockMSRs`.
  mutating func tryClockMSRs(_ id: Int) {
    let page = UInt64(0x40_0000 + id * 0x1000)
    fill(page, count: 4096)
    records = records.filter { !(page..<page + 4096).contains($0.key) }
    for (index, msr) in MSR.clock.enumerated() {
      let address = page + UInt64(index) * 0x200 + 0x100
      if MSR.isWallClock(Hex(msr)) {
        wall.store([UInt8](repeating: 0xa5, count: WallClock.size), at: address)
      }
      tryWrite(id, msr, MSR.request(msr, at: address))
      for other in MSR.clock { tryRead(id, other) }
      dump(address - 64, count: 160)
    }
  }

  /// The host reads 0 from what the vCPU's CPUID does not offer, and may not write it.
  mutating func tryHostsClockMSRs(_ id: Int) {
    for (index, msr) in MSR.clock.enumerated() {
      let value = MSR.request(msr, at: UInt64(0x40_0000 + id * 0x1000 + index * 0x200 + 0x100))
      let mayUse = gate.allows(id, msr)
      host(
        .hostReadMSR(vcpu: id, msr: Hex(msr), value: mayUse ? Hex(self.value(of: msr, on: id)) : 0))
      if mayUse {
        hostWriteMSR(id, msr, value)
      } else {
        host(.hostMSRRefused(vcpu: id, msr: Hex(msr), value: Hex(value)))
        host(.hostWroteMSR(vcpu: id, msr: Hex(msr), value: 0))
      }
    }
  }

  mutating func hostWriteMSR(_ id: Int, _ msr: UInt32, _ value: UInt64) {
    bracketed(.host) { host in
      if MSR.isSystemTime(Hex(msr)) {
        host.vcpus[id]?.msr = value
        host.vcpus[id]?.wantsRecord = true
      } else {
        host.gate.wallClock = value
      }
      return [.hostWroteMSR(vcpu: id, msr: Hex(msr), value: Hex(value))]
    }
  }

  /// The guest overwrites its record word by word.
  mutating func scribble(_ id: Int, _ words: [UInt32]) {
    let address = vcpus[id]!.address
    for (index, word) in words.enumerated() {
      bracketed(.vcpu(id)) { host in
        host.serve(id)
        return [.poked(address: Hex(address + UInt64(index) * 4), value: Hex(word))]
      }
    }
    records[address] = ClockPage(words: words)
  }

  static let memorySize = 2 << 20

  mutating func copyMemory() {
    copied = records
    host(.memoryCopied(count: Self.memorySize))
  }

  /// Compares with the copy; `more` are runs that no honest host leaves.
  mutating func compareMemory(_ more: [MemoryRange] = []) {
    let changed = records.filter { $0.key < UInt64(Self.memorySize) && copied[$0.key] != $0.value }
    let runs = changed.keys.sorted().map { MemoryRange(address: $0, count: 20) }
    host(
      .memoryChanged(runs: runs + more, except: [MemoryRange(address: 0x2000, count: 0x3000)]))
  }
}

extension HistoryBuilder {
  /// A step of a walk, on a vCPU with a record.
  mutating func walkRegistration(_ id: Int, _ random: inout SeededGenerator) {
    let address = 0x10000 + UInt64(id) * 0x1000 + 0x800
    switch random.below(5) {
    case 0:
      hostWriteMSR(id, random.pick([MSR.systemTimeOld, MSR.systemTime]), address | 1)
      enter(id)
      look(id)
    case 1:
      scribble(id, (0..<8).map { _ in UInt32(truncatingIfNeeded: random.next()) })
      register(id, at: vcpus[id]!.address)
    case 2:
      for msr in MSR.clock { tryRead(id, msr) }
      tryWrite(id, random.pick(MSR.clock), address | 1)
    case 3:
      copyMemory()
      run(id, .write(MSR.systemTime, 1 << 40 | 1))
      setClock(random.next())
      for id in vcpus.keys.sorted() { enter(id) }
      compareMemory()
      register(id, at: address)
    default:
      for _ in 0..<3 {
        run(id, .write(MSR.systemTime, vcpus[id]!.msr))
        look(id)
      }
    }
  }
}
