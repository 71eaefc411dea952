package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/util/retry"
)

var (
	background = context.Background()
	eniConfigs = schema.GroupVersionResource{Group: "crd.k8s.amazonaws.com", Version: "v1alpha1", Resource: "eniconfigs"}
	cniNodes   = schema.GroupVersionResource{Group: "vpcresources.k8s.aws", Version: "v1alpha1", Resource: "cninodes"}
)

// config is that of the file KUBECONFIG names, and inside a cluster, of its files.
func config() *rest.Config {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	must("configuration", err)
	return config
}

func client() *kubernetes.Clientset { return kubernetes.NewForConfigOrDie(config()) }

func must(what string, err error) {
	if err != nil {
		fmt.Printf("%s: %v\n", what, err)
		os.Exit(1)
	}
}

func check(what string, so bool, seen ...any) {
	if !so {
		fmt.Println(append([]any{what + ": not so:"}, seen...)...)
		os.Exit(1)
	}
}

// until waits for a state.
func until(what string, so func() bool) {
	for end := time.Now().Add(60 * time.Second); !so(); time.Sleep(20 * time.Millisecond) {
		check(what, time.Now().Before(end))
	}
}

func pod(name, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "play"}},
		Spec: corev1.PodSpec{
			NodeName: node,
			Containers: []corev1.Container{{
				Name: "main", Image: "pause:3", Env: []corev1.EnvVar{{Name: "A", Value: "1"}},
				Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"vpc.amazonaws.com/pod-eni": resource.MustParse("1")}},
			}},
			Volumes: []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
		},
	}
}

// informersPlay is what a node's daemon does: caches of its own pods, its node and all ENIConfigs, kept up to date.
func informersPlay() {
	client, objects := client(), dynamic.NewForConfigOrDie(config())
	stop := make(chan struct{})
	own := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTweakListOptions(func(options *metav1.ListOptions) {
		options.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", "n1").String()
	}))
	pods := own.Core().V1().Pods().Lister()
	podsSynced := own.Core().V1().Pods().Informer().HasSynced
	all := informers.NewSharedInformerFactory(client, 0)
	nodes := all.Core().V1().Nodes().Lister()
	nodesSynced := all.Core().V1().Nodes().Informer().HasSynced
	custom := dynamicinformer.NewDynamicSharedInformerFactory(objects, 0)
	configs := custom.ForResource(eniConfigs)
	configsSynced := configs.Informer().HasSynced
	own.Start(stop)
	all.Start(stop)
	custom.Start(stop)
	check("caches sync", cache.WaitForCacheSync(stop, podsSynced, nodesSynced, configsSynced))

	for _, node := range []string{"n1", "n2"} {
		_, err := client.CoreV1().Nodes().Create(background, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, metav1.CreateOptions{})
		must("create a node", err)
		_, err = client.CoreV1().Pods("default").Create(background, pod("on-"+node, node), metav1.CreateOptions{})
		must("create a pod", err)
	}
	config := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "crd.k8s.amazonaws.com/v1alpha1", "kind": "ENIConfig", "metadata": map[string]any{"name": "zone-a"},
		"spec": map[string]any{"subnet": "subnet-1"},
	}}
	_, err := objects.Resource(eniConfigs).Create(background, config, metav1.CreateOptions{})
	must("create an ENIConfig", err)

	until("the cache has the node's own pod", func() bool {
		pod, err := pods.Pods("default").Get("on-n1")
		return err == nil && len(pod.Spec.Volumes) == 1 && pod.Spec.Volumes[0].EmptyDir != nil && pod.Status.Phase == corev1.PodPending
	})
	_, err = pods.Pods("default").Get("on-n2")
	check("the cache has no pod of another node", errors.IsNotFound(err), err)
	until("the cache has both nodes", func() bool { _, err := nodes.Get("n2"); return err == nil })
	until("the cache has the ENIConfig", func() bool { _, err := configs.Lister().Get("zone-a"); return err == nil })
	zero := int64(0)
	must("delete the pod", client.CoreV1().Pods("default").Delete(background, "on-n1", metav1.DeleteOptions{GracePeriodSeconds: &zero}))
	until("the cache has forgotten the pod", func() bool { _, err := pods.Pods("default").Get("on-n1"); return errors.IsNotFound(err) })
	close(stop)
}

// watchListPlay reads the state by a watch alone, as reflectors of today do, and as it was written before.
func watchListPlay() {
	client := client()
	for _, name := range []string{"a", "b"} {
		_, err := client.CoreV1().Pods("default").Create(background, pod(name, "n1"), metav1.CreateOptions{})
		must("create a pod", err)
	}
	yes, seconds := true, int64(3)
	watcher, err := client.CoreV1().Pods("default").Watch(background, metav1.ListOptions{
		SendInitialEvents: &yes, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, AllowWatchBookmarks: true, TimeoutSeconds: &seconds,
	})
	must("watch with initial events", err)
	var seen []string
	for event := range watcher.ResultChan() {
		object := event.Object.(*corev1.Pod)
		if event.Type == watch.Bookmark {
			seen = append(seen, "bookmark "+object.Annotations[metav1.InitialEventsAnnotationKey])
		} else {
			seen = append(seen, string(event.Type)+" "+object.Name)
		}
	}
	check("two pods, the end of the initial events, and a bookmark before the end", fmt.Sprint(seen) == "[ADDED a ADDED b bookmark true bookmark ]", seen)

	page, err := client.CoreV1().Pods("default").List(background, metav1.ListOptions{Limit: 1})
	must("list one", err)
	check("a page", len(page.Items) == 1 && page.Continue != "" && *page.RemainingItemCount == 1, page)
	_, err = client.CoreV1().Pods("default").Create(background, pod("c", "n1"), metav1.CreateOptions{})
	must("create a pod", err)
	rest, err := client.CoreV1().Pods("default").List(background, metav1.ListOptions{Limit: 5, Continue: page.Continue})
	must("list the rest", err)
	check("the rest as it was at the first page", len(rest.Items) == 1 && rest.Items[0].Name == "b", rest)
	_, err = client.CoreV1().Pods("default").List(background, metav1.ListOptions{ResourceVersion: "999999"})
	check("a version of the future", errors.IsTimeout(err), err)
}

// expiryPlay is cut off, misses versions, and reads everything anew. It says `synced` and reads a line before it goes on.
func expiryPlay() {
	client := client()
	factory := informers.NewSharedInformerFactory(client, 0)
	lister := factory.Core().V1().ConfigMaps().Lister()
	synced := factory.Core().V1().ConfigMaps().Informer().HasSynced
	stop := make(chan struct{})
	factory.Start(stop)
	check("cache syncs", cache.WaitForCacheSync(stop, synced))
	list, err := client.CoreV1().ConfigMaps("default").List(background, metav1.ListOptions{})
	must("list", err)
	fmt.Println("synced")
	var line string
	_, err = fmt.Scanln(&line)
	must("wait for the other side", err)

	until("the cache is right again", func() bool { _, err := lister.ConfigMaps("default").Get("missed"); return err == nil })
	_, err = lister.ConfigMaps("default").Get("old")
	check("what was deleted meanwhile is forgotten", errors.IsNotFound(err), err)
	watcher, err := client.CoreV1().ConfigMaps("default").Watch(background, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	must("watch from an old version", err)
	event := <-watcher.ResultChan()
	check("an error in the watch", event.Type == watch.Error && errors.IsResourceExpired(errors.FromObject(event.Object)), event)
	_, err = client.CoreV1().ConfigMaps("default").List(background, metav1.ListOptions{
		ResourceVersion: list.ResourceVersion, ResourceVersionMatch: metav1.ResourceVersionMatchExact,
	})
	check("410 for the list of an old version", errors.IsResourceExpired(err), err)
	close(stop)
}

// writesPlay changes objects as controllers do: conflicts, optimistic locks, status, preconditions.
func writesPlay() {
	client, objects := client(), dynamic.NewForConfigOrDie(config())
	node, err := client.CoreV1().Nodes().Create(background, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{})
	must("create a node", err)
	stale := node.DeepCopy()
	node.Labels = map[string]string{"a": "1"}
	_, err = client.CoreV1().Nodes().Update(background, node, metav1.UpdateOptions{})
	must("update the node", err)
	stale.Labels = map[string]string{"b": "1"}
	_, err = client.CoreV1().Nodes().Update(background, stale, metav1.UpdateOptions{})
	check("a conflict", errors.IsConflict(err), err)
	attempts := 0
	must("retry on conflict", retry.RetryOnConflict(retry.DefaultRetry, func() error {
		attempts++
		if attempts > 1 {
			if stale, err = client.CoreV1().Nodes().Get(background, "n1", metav1.GetOptions{}); err != nil {
				return err
			}
		}
		stale.Spec.Unschedulable = true
		_, err := client.CoreV1().Nodes().Update(background, stale, metav1.UpdateOptions{})
		return err
	}))
	check("the second attempt", attempts == 2, attempts)

	current, err := client.CoreV1().Nodes().Get(background, "n1", metav1.GetOptions{})
	must("get the node", err)
	current.Spec.Unschedulable = false
	current.Status.Capacity = corev1.ResourceList{corev1.ResourcePods: resource.MustParse("29")}
	_, err = client.CoreV1().Nodes().UpdateStatus(background, current, metav1.UpdateOptions{})
	must("update the status", err)
	current, err = client.CoreV1().Nodes().Get(background, "n1", metav1.GetOptions{})
	must("get the node", err)
	check("the status and nothing else has changed", current.Spec.Unschedulable && current.Status.Capacity.Pods().Value() == 29, current)

	_, err = objects.Resource(cniNodes).Create(background, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "vpcresources.k8s.aws/v1alpha1", "kind": "CNINode", "metadata": map[string]any{"name": "n1"},
	}}, metav1.CreateOptions{})
	must("create a CNINode", err)
	locked := func(version string) error {
		patch := fmt.Sprintf(`{"metadata":{"resourceVersion":%q},"spec":{"features":[{"name":"SecurityGroupsForPods"}]}}`, version)
		_, err := objects.Resource(cniNodes).Patch(background, "n1", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		return err
	}
	check("a patch of another version", errors.IsConflict(locked("1")))
	cniNode, err := objects.Resource(cniNodes).Get(background, "n1", metav1.GetOptions{})
	must("get the CNINode", err)
	must("a patch of this version", locked(cniNode.GetResourceVersion()))
	_, err = objects.Resource(cniNodes).Patch(background, "n1", types.StrategicMergePatchType, []byte("{}"), metav1.PatchOptions{})
	check("no strategic merge of custom resources", errors.IsUnsupportedMediaType(err), err)
	_, err = client.CoreV1().Nodes().Patch(background, "n1", types.ApplyPatchType, []byte("{}"), metav1.PatchOptions{FieldManager: "me"})
	check("no server-side apply", errors.IsUnsupportedMediaType(err), err)

	_, err = client.CoreV1().Pods("nowhere").Create(background, pod("a", "n1"), metav1.CreateOptions{})
	check("no namespace", errors.IsNotFound(err), err)
	created, err := client.CoreV1().Pods("default").Create(background, pod("a", "n1"), metav1.CreateOptions{})
	must("create a pod", err)
	_, err = client.CoreV1().Pods("default").Create(background, pod("a", "n1"), metav1.CreateOptions{})
	check("a taken name", errors.IsAlreadyExists(err), err)
	other := types.UID("other")
	err = client.CoreV1().Pods("default").Delete(background, "a", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &other}})
	check("another uid", errors.IsConflict(err), err)
	must("delete the pod", client.CoreV1().Pods("default").Delete(background, "a", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &created.UID}}))
	ending, err := client.CoreV1().Pods("default").Get(background, "a", metav1.GetOptions{})
	must("the pod is still there", err)
	check("it is being deleted", ending.DeletionTimestamp != nil && *ending.DeletionGracePeriodSeconds == 30, ending)
	_, err = client.CoreV1().Pods("default").Create(background, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "x-"}}, metav1.CreateOptions{})
	check("no containers", errors.IsInvalid(err), err)
}

// renewedLock tells when its first renewal is answered.
type renewedLock struct {
	resourcelock.Interface
	renewed chan struct{}
	once    sync.Once
}

func (lock *renewedLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	err := lock.Interface.Update(ctx, record)
	lock.once.Do(func() { close(lock.renewed) })
	return err
}

// leaderPlay gets a lease, renews it and gives it back.
//
// The elector renews at once when it leads, and then every RetryPeriod. Cancelled in the middle of a renewal that the server
// carried out, it would give back a version that is old by then, and fail: against any server. So this waits for the first
// renewal's answer, and cancels in the long pause after it.
func leaderPlay() {
	client := client()
	ctx, cancel := context.WithCancel(background)
	led := false
	lock := &renewedLock{
		Interface: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Name: "leader", Namespace: "kube-system"},
			Client:     client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: "me"},
		},
		renewed: make(chan struct{}),
	}
	leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
		Lock:            lock,
		ReleaseOnCancel: true, LeaseDuration: 60 * time.Second, RenewDeadline: 50 * time.Second, RetryPeriod: 30 * time.Second,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) {
				<-lock.renewed
				time.Sleep(500 * time.Millisecond)
				lease, err := client.CoordinationV1().Leases("kube-system").Get(background, "leader", metav1.GetOptions{})
				must("get the lease", err)
				led = *lease.Spec.HolderIdentity == "me" && *lease.Spec.LeaseDurationSeconds == 60 && lease.Spec.RenewTime.After(lease.Spec.AcquireTime.Time)
				cancel()
			},
			OnStoppedLeading: func() {},
		},
	})
	check("this one has led", led)
	var lease *coordinationv1.Lease
	until("the lease is given back", func() bool {
		var err error
		lease, err = client.CoordinationV1().Leases("kube-system").Get(background, "leader", metav1.GetOptions{})
		must("get the lease", err)
		return lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity == ""
	})
}

// inClusterPlay runs on the files of a pod alone, and tells of a denied call by an event, as ipamd does.
func inClusterPlay() {
	config, err := rest.InClusterConfig()
	must("in-cluster configuration", err)
	client := kubernetes.NewForConfigOrDie(config)
	review, err := client.CoreV1().Pods("kube-system").Create(background, pod("aws-node-x", "n1"), metav1.CreateOptions{})
	must("create a pod", err)
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: client.EventsV1()})
	must("start recording", broadcaster.StartRecordingToSinkWithContext(background))
	recorder := broadcaster.NewRecorder(scheme.Scheme, "aws-node")
	for range 2 {
		recorder.Eventf(review, nil, corev1.EventTypeWarning, "MissingIAMPermissions", "ec2:CreateNetworkInterface", "denied: %s", "CreateNetworkInterface")
	}
	var found []eventsv1.Event
	until("the event and its series", func() bool {
		list, err := client.EventsV1().Events("kube-system").List(background, metav1.ListOptions{FieldSelector: "regarding.name=aws-node-x"})
		must("list events", err)
		found = list.Items
		return len(found) == 1 && found[0].Series != nil
	})
	check("the event", found[0].Note == "denied: CreateNetworkInterface" && found[0].ReportingController == "aws-node", found)
	old, err := client.CoreV1().Events("kube-system").List(background, metav1.ListOptions{FieldSelector: "involvedObject.name=aws-node-x"})
	must("list events of v1", err)
	check("the same event in v1", len(old.Items) == 1 && old.Items[0].Message == found[0].Note, old)
	broadcaster.Shutdown()
}

// protobufPlay insists on protobuf: it is told so, in words that are no protobuf.
func protobufPlay() {
	preferring := config()
	preferring.ContentType = "application/vnd.kubernetes.protobuf"
	preferring.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	client := kubernetes.NewForConfigOrDie(preferring)
	_, err := client.CoreV1().Nodes().Create(background, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{})
	must("write in protobuf, read in JSON", err)
	nodes, err := client.CoreV1().Nodes().List(background, metav1.ListOptions{})
	must("list", err)
	check("one node", len(nodes.Items) == 1, nodes)
	insisting := config()
	insisting.ContentType, insisting.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf"
	_, err = kubernetes.NewForConfigOrDie(insisting).CoreV1().Nodes().List(background, metav1.ListOptions{})
	check("406", errors.ReasonForError(err) == metav1.StatusReasonNotAcceptable, err)
}
