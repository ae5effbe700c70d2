// swift-format-ignore-file
// Written by make.sh. Do not edit.

extension Recording {
  static let suspend = Recording(text: #"""
{"attempt":1,"format":"kvmclock-history","host":{"backend":"kvm_amd","clocksource":"tsc","kernel":"6.12.117+deb12-amd64","tscKHz":2596130},"scenario":"suspend","seed":3803501716,"version":2}
{"by":"host","did":{"vmCreated":{}},"n":1,"raw":[31004457041,31025447062],"tsc":[82609843187,82664319739]}
{"by":"host","did":{"vcpuCreated":{"vcpu":0}},"n":2,"raw":[31025482124,31059141833],"tsc":[82664425143,82751798689]}
{"by":"host","did":{"featuresSet":{"features":"0x1007efb","vcpu":0}},"n":3,"raw":[31059168583,31059169665],"tsc":[82751879081,82751879991]}
{"by":"host","did":{"booted":{"guest":"agent-long","mode":"long","vcpu":0}},"n":4,"raw":[31059195103,31074807650],"tsc":[82751947669,82792472803]}
{"by":"host","did":{"vcpuCreated":{"vcpu":1}},"n":5,"raw":[31074831346,31083081876],"tsc":[82792541235,82813951559]}
{"by":"host","did":{"featuresSet":{"features":"0x1007efb","vcpu":1}},"n":6,"raw":[31083100443,31083101174],"tsc":[82814008837,82814009305]}
{"by":"host","did":{"booted":{"guest":"agent-long","mode":"long","vcpu":1}},"n":7,"raw":[31083114634,31083279350],"tsc":[82814044587,82814471767]}
{"by":"vcpu0","did":{"entered":{}},"n":8,"raw":[31085230143,31086409138],"tsc":[82819538361,82822593907]}
{"by":"vcpu1","did":{"wroteMSR":{"msr":"0x4b564d01","value":"0x2a741"}},"n":9,"raw":[31089532707,31090344315],"tsc":[82830708663,82832809489]}
{"by":"vcpu1","did":{"read":{"address":"0x2a740","reading":{"page":{"flags":1,"pad":0,"pad0":0,"system_time":84886996,"tsc_shift":-1,"tsc_timestamp":80213172,"tsc_to_system_mul":3308745937,"version":2},"tsc":81848702},"ring":0,"settled":true}},"n":10,"raw":[31089532707,31090344315],"tsc":[82830708663,82832809489]}
{"by":"vcpu1","did":{"read":{"address":"0x2a740","reading":{"page":{"flags":1,"pad":0,"pad0":0,"system_time":84886996,"tsc_shift":-1,"tsc_timestamp":80213172,"tsc_to_system_mul":3308745937,"version":2},"tsc":83174286},"ring":0,"settled":true}},"n":11,"raw":[31090636720,31090767325],"tsc":[82833573577,82833909887]}
{"by":"host","did":{"hostClock":{"name":"CLOCK_BOOTTIME","nanoseconds":31381844962}},"n":12,"raw":[31090942425,31090942615],"tsc":[82834366421,82834366733]}
{"by":"host","did":{"hostChanged":{"value":"freezer","what":"suspend"}},"n":13,"raw":[31100207285,31130909312],"tsc":[82858420607,82938115001]}
{"by":"host","did":{"hostClock":{"name":"CLOCK_BOOTTIME","nanoseconds":31421977071}},"n":14,"raw":[31131074528,31131074718],"tsc":[82938554583,82938554895]}
{"by":"vcpu0","did":{"entered":{}},"n":15,"raw":[31131273714,31131457117],"tsc":[82939073491,82939545495]}
{"by":"vcpu1","did":{"entered":{}},"n":16,"raw":[31136266566,31136444671],"tsc":[82952036207,82952493157]}
{"by":"host","did":{"page":{"address":"0x2a740","page":{"flags":3,"pad":0,"pad0":0,"system_time":84886996,"tsc_shift":-1,"tsc_timestamp":80213172,"tsc_to_system_mul":3308745937,"version":4},"vcpu":1}},"n":17,"raw":[31136851977,31136858857],"tsc":[82953554789,82953571169]}
{"by":"vcpu1","did":{"read":{"address":"0x2a740","reading":{"page":{"flags":3,"pad":0,"pad0":0,"system_time":84886996,"tsc_shift":-1,"tsc_timestamp":80213172,"tsc_to_system_mul":3308745937,"version":4},"tsc":204046934},"ring":0,"settled":true}},"n":18,"raw":[31137232013,31137317420],"tsc":[82954541255,82954759525]}
{"by":"vcpu0","did":{"wroteMSR":{"msr":"0x4b564d01","value":"0x22a41"}},"n":19,"raw":[31137537147,31137757655],"tsc":[82955332877,82955901939]}
{"by":"vcpu0","did":{"read":{"address":"0x22a40","reading":{"page":{"flags":1,"pad":0,"pad0":0,"system_time":84886996,"tsc_shift":-1,"tsc_timestamp":80213172,"tsc_to_system_mul":3308745937,"version":2},"tsc":205204948},"ring":0,"settled":true}},"n":20,"raw":[31137537147,31137757655],"tsc":[82955332877,82955901939]}
{"by":"host","did":{"page":{"address":"0x22a40","page":{"flags":1,"pad":0,"pad0":0,"system_time":84886996,"tsc_shift":-1,"tsc_timestamp":80213172,"tsc_to_system_mul":3308745937,"version":2},"vcpu":0}},"n":21,"raw":[31137869892,31137873477],"tsc":[82956196701,82956205229]}
{"by":"host","did":{"vmCreated":{}},"n":22,"raw":[31210246197,31228934903],"tsc":[83144098129,83192602091]}
{"by":"host","did":{"vcpuCreated":{"vcpu":0}},"n":23,"raw":[31228953631,31261632260],"tsc":[83192663503,83277490063]}
{"by":"host","did":{"featuresSet":{"features":"0x1007efb","vcpu":0}},"n":24,"raw":[31261645399,31261646611],"tsc":[83277535199,83277536447]}
{"by":"host","did":{"booted":{"guest":"agent-long","mode":"long","vcpu":0}},"n":25,"raw":[31261665990,31292589586],"tsc":[83277587147,83357860093]}
{"by":"host","did":{"vcpuCreated":{"vcpu":1}},"n":26,"raw":[31292616527,31300682782],"tsc":[83357940485,83378874879]}
{"by":"host","did":{"featuresSet":{"features":"0x1007efb","vcpu":1}},"n":27,"raw":[31300694149,31300695041],"tsc":[83378910239,83378911305]}
{"by":"host","did":{"booted":{"guest":"agent-long","mode":"long","vcpu":1}},"n":28,"raw":[31300712156,31300876150],"tsc":[83378956051,83379381437]}
{"by":"vcpu0","did":{"entered":{}},"n":29,"raw":[31304147279,31305810204],"tsc":[83387876651,83392185943]}
{"by":"vcpu1","did":{"entered":{}},"n":30,"raw":[31306275276,31306796542],"tsc":[83393399311,83394749387]}
{"by":"host","did":{"hostChanged":{"value":"freezer","what":"suspend"}},"n":31,"raw":[31321316243,31356538598],"tsc":[83432449777,83523877711]}
"""#)
}
