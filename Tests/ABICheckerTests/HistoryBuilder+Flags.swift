import PVClock

@testable import ABIChecker

extension HistoryBuilder {
  /// What an update writes as flags: bit 1 as the guest left it, or as the host was asked.
  mutating func flags(after old: ClockPage, on id: Int) -> ClockPage.Flags {
    var flags = old.flags.intersection(.guestStopped)
    if pair != nil { flags.insert(.tscStable) }
    if vcpus[id]!.isToldStopped { flags.insert(.guestStopped) }
    vcpus[id]?.isToldStopped = false
    return flags
  }

  /// KVM_KVMCLOCK_CTRL; `errno` in place of what KVM would say.
  mutating func tellStopped(_ id: Int, errno: Errno? = nil) {
    bracketed(.host) { host in
      let isRegistered = host.vcpus[id]!.isRegistered
      if isRegistered {
        host.vcpus[id]?.isToldStopped = true
        host.vcpus[id]?.wantsRecord = true
      }
      return [.toldStopped(vcpu: id, errno: errno ?? (isRegistered ? .none : "EINVAL"))]
    }
  }

  /// The guest clears bit 1.
  mutating func clearStopped(_ id: Int) {
    let address = vcpus[id]!.address
    bracketed(.vcpu(id)) { host in
      host.serve(id)
      let key = host.key(of: address)
      host.records[key]?.flags.remove(.guestStopped)
      let page = host.records[key] ?? ClockPage()
      let word = UInt64(UInt8(bitPattern: page.tscShift)) | UInt64(page.flags.rawValue) << 8
      return [.poked(address: Hex(address + 28), value: Hex(word))]
    }
  }

  /// Every vCPU enters twice; the host looks at every record and reads the clock.
  mutating func settleAndLook() {
    let ids = vcpus.keys.sorted()
    for _ in 0..<2 {
      for id in ids { enter(id) }
    }
    for id in ids where vcpus[id]!.isRegistered { look(id) }
    getClock()
  }
}
