// Command provisioner makes and removes the volumes of the storage class "standard": a directory per volume, on the
// node where the pod that uses it was placed.
//
// The volumes are of the kind "local", not "hostPath", so that the kubelet applies a pod's fsGroup as it does for disks.
// Every node sees the volumes folder under the same path as this program, which runs beside the control plane.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"
)

// Annotations by which the scheduler, the volume controller and a provisioner agree who does what, and this program's
// name in them and in the StorageClass of addons.yaml.
const (
	selectedNode       = "volume.kubernetes.io/selected-node"
	storageProvisioner = "volume.kubernetes.io/storage-provisioner"
	provisionedBy      = "pv.kubernetes.io/provisioned-by"
	thisProvisioner    = "warrenmq.dev/local-directory"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "file that says how to reach the API server")
	folder := flag.String("folder", "", "absolute path of the folder that holds one directory per volume")
	flag.Parse()
	if err := run(*kubeconfig, *folder); err != nil {
		log.Fatal(err)
	}
}

func run(kubeconfig, folder string) error {
	if !filepath.IsAbs(folder) {
		return fmt.Errorf("-folder %q is not an absolute path", folder)
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read -kubeconfig: %w", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()

	// Both kinds share one queue: a key holds the object as it was last seen, and whatever failed is tried again.
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[key]())
	defer queue.ShutDown()
	factory := informers.NewSharedInformerFactory(client, 0)
	claims := factory.Core().V1().PersistentVolumeClaims().Informer()
	volumes := factory.Core().V1().PersistentVolumes().Informer()
	for _, source := range []cache.SharedIndexInformer{claims, volumes} {
		if _, err := source.AddEventHandler(enqueue(queue, source.GetIndexer())); err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	go func() { <-ctx.Done(); queue.ShutDown() }()
	worker := provisioner{client, folder}
	for {
		next, closed := queue.Get()
		if closed {
			return nil
		}
		if err := worker.handle(ctx, next); err != nil {
			log.Printf("%s: %v", next.name, err)
			queue.AddRateLimited(next)
		} else {
			queue.Forget(next)
		}
		queue.Done(next)
	}
}

// key names an object and the store that knows its present state.
type key struct {
	store cache.Indexer
	name  string
}

func enqueue(queue workqueue.TypedRateLimitingInterface[key], store cache.Indexer) cache.ResourceEventHandler {
	add := func(object any) {
		if name, err := cache.MetaNamespaceKeyFunc(object); err == nil {
			queue.Add(key{store, name})
		}
	}
	return cache.ResourceEventHandlerFuncs{AddFunc: add, UpdateFunc: func(_, changed any) { add(changed) }}
}

type provisioner struct {
	client kubernetes.Interface
	folder string
}

func (p provisioner) handle(ctx context.Context, next key) error {
	object, exists, err := next.store.GetByKey(next.name)
	if err != nil || !exists {
		return err
	}
	switch object := object.(type) {
	case *core.PersistentVolumeClaim:
		if object.Status.Phase == core.ClaimPending && object.Spec.VolumeName == "" &&
			object.Annotations[storageProvisioner] == thisProvisioner && object.Annotations[selectedNode] != "" {
			return p.provision(ctx, object)
		}
	case *core.PersistentVolume:
		if object.Status.Phase == core.VolumeReleased && object.Annotations[provisionedBy] == thisProvisioner &&
			object.Spec.PersistentVolumeReclaimPolicy == core.PersistentVolumeReclaimDelete {
			return p.remove(ctx, object)
		}
	}
	return nil
}

// provision makes the directory and the volume for a claim. The name is derived from the claim, so that doing it twice
// makes one volume.
func (p provisioner) provision(ctx context.Context, claim *core.PersistentVolumeClaim) error {
	class, err := p.client.StorageV1().StorageClasses().Get(ctx, *claim.Spec.StorageClassName, meta.GetOptions{})
	if err != nil {
		return err
	}
	name := "pvc-" + string(claim.UID)
	path := filepath.Join(p.folder, name)
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	volume := &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{Name: name, Annotations: map[string]string{provisionedBy: thisProvisioner}},
		Spec: core.PersistentVolumeSpec{
			AccessModes: claim.Spec.AccessModes,
			Capacity:    core.ResourceList{core.ResourceStorage: claim.Spec.Resources.Requests[core.ResourceStorage]},
			ClaimRef: &core.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID, ResourceVersion: claim.ResourceVersion,
			},
			NodeAffinity:                  onlyOn(claim.Annotations[selectedNode]),
			PersistentVolumeReclaimPolicy: *class.ReclaimPolicy,
			PersistentVolumeSource:        core.PersistentVolumeSource{Local: &core.LocalVolumeSource{Path: path}},
			StorageClassName:              class.Name,
			VolumeMode:                    claim.Spec.VolumeMode,
		},
	}
	_, err = p.client.CoreV1().PersistentVolumes().Create(ctx, volume, meta.CreateOptions{})
	if errors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// onlyOn says that a volume can be used on one node. The nodes of this cluster are called like their host names.
func onlyOn(node string) *core.VolumeNodeAffinity {
	return &core.VolumeNodeAffinity{Required: &core.NodeSelector{NodeSelectorTerms: []core.NodeSelectorTerm{{
		MatchExpressions: []core.NodeSelectorRequirement{{
			Key: core.LabelHostname, Operator: core.NodeSelectorOpIn, Values: []string{node},
		}},
	}}}}
}

// remove deletes what was stored first, so that a volume that is gone from the API has left nothing on the disk.
func (p provisioner) remove(ctx context.Context, volume *core.PersistentVolume) error {
	if err := os.RemoveAll(filepath.Join(p.folder, volume.Name)); err != nil {
		return err
	}
	err := p.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, meta.DeleteOptions{})
	if errors.IsNotFound(err) {
		return nil
	}
	return err
}
