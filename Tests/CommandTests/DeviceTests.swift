import Foundation
import Testing

@Suite struct DeviceTests {
  let folder: Folder

  init() throws { folder = try Folder() }

  static let notKVM = "isn't KVM's device: name the device that the kernel's KVM made"

  @Test(
    arguments: ["run", "doctor"],
    [
      ("none", "open none failed: No such file or directory (ENOENT, errno 2). Remedy: Load"),
      (".", "open . failed: Is a directory (EISDIR, errno 21). Remedy: . \(notKVM)"),
      ("file", "KVM_GET_API_VERSION failed: Inappropriate ioctl for device (ENOTTY, errno 25)"),
      ("/dev/null", "Remedy: /dev/null \(notKVM)"),
      ("/dev/zero", "Remedy: /dev/zero \(notKVM)"),
    ])
  func whatIsNotKVMIsNamedWithTheRemedy(command: String, device: (String, String)) throws {
    try folder.write("", to: "file")
    let child = try Child("exec \"$K\" \(command) --device \(device.0)", in: folder)
    child.expect(69, "kvmclock: ")
    child.expect(69, device.1)
    #expect(child.output == "")
    #expect(child.complaint.split(separator: "\n").count == 1)
  }

  @Test(.enabled(if: Host.isRoot, "only root can become a user without permission"))
  func aDeviceWithoutPermissionIsNamedWithTheRemedy() throws {
    try folder.write("", to: "device")
    let child = try Child(asNobody + " doctor --device device", in: folder)
    child.expect(69, "open device failed: Permission denied (EACCES, errno 13). Remedy: Add")
  }

  @Test func theDoctorPointsToTheLabWhereThereIsNoDevice() throws {
    let child = try Child("exec \"$K\" doctor --device none", in: folder)
    child.expect(69, "`make lab` in the project's checkout boots real KVM kernels under emulation")
    let another = try Child("exec \"$K\" doctor --device /dev/null", in: folder)
    another.expect(69, "Remedy: /dev/null")
    #expect(!another.complaint.contains("make lab"))
  }

  @Test(.enabled(if: Host.hasKVM, Host.reason))
  func theDoctorSaysWhatThisHostOffers() throws {
    let child = try Child("exec \"$K\" doctor", in: folder)
    child.expect(0)
    for word in [
      "host\n", "  kernel       ", "  clocksource  ", "capabilities\n", "  KVM_CAP_ADJUST_CLOCK ",
      "tried\n", "  master clock  ", "  TSC offset  ",
    ] {
      #expect(child.output.contains(word))
    }
  }

  @Test(.enabled(if: Host.hasKVM && Host.isRoot, "needs KVM, and root to mount a full disk"))
  func aFullDiskForHistoriesIsToldBeforeAnythingRuns() throws {
    let child = try Child(
      """
      mkdir full
      exec unshare --mount sh -c 'mount -t tmpfs -o size=16k none full &&
        head -c 16384 /dev/zero >full/filler && exec "$K" run VERSION-EVEN --history full'
      """, in: folder)
    child.expect(74, "kvmclock: full: cannot write: No space left on device; free some space")
    #expect(child.output == "")
  }

  @Test(
    .enabled(if: Host.hasKVM, Host.reason),
    arguments: [
      ("/sys/none", "cannot create the folder: "), ("/sys", "cannot write a file there: "),
      ("file", "file: cannot write a file there: Not a directory"),
      ("file/below", "cannot create the folder: Not a directory"),
    ])
  func aFolderForHistoriesThatCannotBeWrittenIsToldBeforeAnythingRuns(
    path: String, complaint: String
  ) throws {
    try folder.write("", to: "file")
    let child = try Child("exec \"$K\" run VERSION-EVEN --history \(path)", in: folder)
    child.expect(74, complaint)
    #expect(child.output == "")
  }

  @Test(.enabled(if: Host.hasKVM, Host.reason), arguments: ["7", "0x7"])
  func theSeedIsPrinted(seed: String) throws {
    let child = try Child("exec \"$K\" run MSR-INDEX-LIST --seed \(seed)", in: folder)
    #expect(child.output.contains(", seed 7\n"))
  }

  /// A copy of the command where anybody may run it, started by a user who may do nothing.
  private var asNobody: String {
    """
    chmod 755 . && cp "$K" ./command && chmod 755 command && chmod 600 device 2>/dev/null
    exec setpriv --reuid=65534 --regid=65534 --clear-groups ./command
    """
  }
}
