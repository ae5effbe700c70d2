internal import Glibc
internal import KVM

// What user space asks of the VM's clock.

extension VMClock {
  /// KVM_GET_CLOCK: what every guest would read at this instant; with the master clock also when that is, by the host's clocks.
  mutating func get() -> ClockData {
    let now = now()
    var data = ClockData(clock: now.systemTime)
    if hasMasterClock {
      data = ClockData(
        clock: now.systemTime, flags: [.tscStable, .realtime, .hostTSC], realtime: time.realtime(),
        hostTSC: now.tsc)
    }
    deviation.get?(&self, &data)
    return data
  }

  /// KVM_SET_CLOCK: from now on it is this late. With a real time, as much later as has gone by since then; never earlier.
  mutating func set(_ data: ClockData) throws(KVMError) {
    var data = data
    let mayPass = deviation.set?(&self, &data) ?? false
    guard mayPass || data.flags.isSubset(of: [.tscStable, .realtime, .hostTSC]) else {
      throw KVMError(request: "KVM_SET_CLOCK", errno: EINVAL, remedy: nil)
    }
    let now = now()
    var value = data.clock
    if data.flags.contains(.realtime) {
      let realtime = time.realtime()
      if realtime > data.realtime { value &+= realtime - data.realtime }
    }
    setSystemTime(value, at: now)
  }

  /// KVM_KVMCLOCK_CTRL: the guest is told in its record that it was stopped, if it has one.
  mutating func tellStopped(_ id: Int) throws(KVMError) {
    if deviation.tellStopped?(&self, id) == true { return }
    guard vcpus[id]!.hasRecord else {
      throw KVMError(request: "KVM_KVMCLOCK_CTRL", errno: EINVAL, remedy: nil)
    }
    vcpus[id]!.isStopPending = true
    vcpus[id]!.needsRecord = true
  }
}
